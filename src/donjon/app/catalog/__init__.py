"""The catalog of this installation: opening it, filling it from the places it is a cache of, counting."""
