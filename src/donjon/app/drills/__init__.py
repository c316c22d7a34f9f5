"""Drills: attacking a vault with credentials that somebody may steal, and losing its key service."""
