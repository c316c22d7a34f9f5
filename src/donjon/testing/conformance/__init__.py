"""What every adapter of a port must do. One passes if a subclass of these classes does."""
