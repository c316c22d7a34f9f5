"""Looks after what lies in a vault, without any key: locks anew what is needed, deletes what is not."""
