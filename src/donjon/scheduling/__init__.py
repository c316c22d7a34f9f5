"""When work is due, and the service that does it."""
