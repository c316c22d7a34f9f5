"""Where backups are restored: the port and its adapters."""
