"""Errors, units, clock and events; standard library only."""
