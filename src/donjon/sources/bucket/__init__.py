"""The objects of a bucket as a source."""
