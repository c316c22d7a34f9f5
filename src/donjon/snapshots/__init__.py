"""Snapshots of volumes, by the provider's own means."""
