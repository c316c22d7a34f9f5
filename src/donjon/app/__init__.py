"""Use cases that every interface shares; wiring and stores build the adapters."""
