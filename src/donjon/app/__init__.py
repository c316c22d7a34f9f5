"""Use cases that every interface shares; wiring builds the adapters."""
