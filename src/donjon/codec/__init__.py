"""Chunk, digest, compress, seal: bytes to bytes, no I/O."""
