"""The vault as a whole: open, write sessions, index, read, verify."""
