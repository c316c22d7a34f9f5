"""Servers of PostgreSQL: backing up, archiving the log, restoring, checking, drilling."""
