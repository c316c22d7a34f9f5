"""Which points are suspect: marking them, lifting marks, and what it takes to use one all the same."""
