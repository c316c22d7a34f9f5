"""From a recovery point back to files."""
