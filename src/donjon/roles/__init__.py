"""The five roles of a vault, and the policies that are made from what they do."""
