"""What is backed up: the port and its adapters."""
