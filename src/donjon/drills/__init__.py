"""Drills: they try in earnest what must not work, or what must, and tell what was seen."""
