"""Buckets and containers for tests, each with a name of its own."""

from __future__ import annotations

import itertools
from typing import Any

from donjon.testing.azure.front import AzureFront

_numbers = itertools.count(1)


def new_bucket(client: Any, *, locks: bool = True) -> str:
    """An empty bucket as a vault wants it, or one without object retention."""
    bucket = client.bucket(f"bucket-{next(_numbers)}")
    bucket.versioning_enabled = True
    bucket.iam_configuration.public_access_prevention = "enforced"
    client.create_bucket(bucket, enable_object_retention=locks)
    return str(bucket.name)


def new_container(front: AzureFront, *, locks: bool = True, public: str | None = None) -> str:
    """An empty container as a vault wants it, or one without version-level immutability."""
    name = f"container-{next(_numbers)}"
    front.create_container(name, immutability=locks, public=public)
    return name
