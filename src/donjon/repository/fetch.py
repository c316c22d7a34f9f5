"""Fetches whole objects, never more of one than an object of its kind can have."""

from __future__ import annotations

from donjon.core.errors import IntegrityFailure
from donjon.format.objects import MAX_BYTES, ObjectKind
from donjon.stores.base import ObjectStore


def fetch_object(store: ObjectStore, name: str, kind: ObjectKind) -> bytes:
    """The bytes of a signed object, not checked yet.

    Raises ``IntegrityFailure`` if it is larger than any of its kind, ``ObjectNotFound``.
    """
    limit = MAX_BYTES[kind]
    data = store.get(name, length=limit + 1)
    if len(data) > limit:
        msg = f"{name}: is larger than any object of its kind"
        raise IntegrityFailure(msg, hint="It was replaced. Do not trust this store.")
    return data
