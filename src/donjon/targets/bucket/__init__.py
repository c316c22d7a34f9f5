"""A bucket as the target of a restore."""
