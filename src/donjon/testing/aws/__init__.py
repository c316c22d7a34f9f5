"""Somebody with a key of AWS, the servers that speak as AWS does, and what stands between both."""
