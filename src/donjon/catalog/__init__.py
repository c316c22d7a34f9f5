"""The catalog: what this installation knows of its runs, points and copies. A cache, never the truth."""
