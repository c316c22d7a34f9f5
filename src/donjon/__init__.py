"""Donjon: backups that an attacker with the production credentials cannot delete, alter or read."""
