"""Object stores: the port, its adapters and its wrappers."""
