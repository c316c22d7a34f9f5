"""Between bytes and types: every object of a vault. Specified in docs/format.md."""
