"""From a source to a committed recovery point."""
