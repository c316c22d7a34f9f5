"""What an entry keeps of an object beside its bytes: extended attributes of its own.

No kernel knows the namespace ``donjon.``, and a restore into a file tree leaves it out.
"""

from __future__ import annotations

from typing import Final

import msgspec

from donjon.clouds.objects.base import Listed, Metadata
from donjon.core.errors import IntegrityFailure
from donjon.format.entries import Entry

ETAG: Final = b"donjon.etag"
OBJECT: Final = b"donjon.object"
VERSION: Final = b"donjon.version"
#: Of the entry of a delete marker, in place of the metadata.
DELETED: Final = b"donjon.deleted"

_encode = msgspec.json.Encoder(order="deterministic").encode
_decode = msgspec.json.Decoder(Metadata).decode

Attributes = tuple[tuple[bytes, bytes], ...]


def attributes_of(listed: Listed, metadata: Metadata) -> Attributes:
    """The attributes of an object, sorted."""
    pairs = [(ETAG, _bytes(listed.etag)), (OBJECT, _encode(metadata))]
    if listed.version:
        pairs.append((VERSION, _bytes(listed.version)))
    return tuple(pairs)


def attributes_of_marker(listed: Listed) -> Attributes:
    """The attributes of a delete marker, sorted."""
    return ((DELETED, b"1"), (VERSION, _bytes(listed.version)))


def is_same(listed: Listed, attributes: Attributes) -> bool:
    """Whether these attributes are of what is listed, as far as the listing tells."""
    etag, version = b"", None
    for name, value in attributes:
        if name == ETAG:
            etag = value
        elif name == VERSION:
            version = value
    if listed.version and version is not None and version != _bytes(listed.version):
        return False
    return etag == _bytes(listed.etag)


def metadata_of(entry: Entry) -> Metadata | None:
    """The metadata that the entry of an object keeps; None for an entry of something else.

    Raises ``IntegrityFailure`` for what cannot be read.
    """
    for name, value in entry.xattrs:
        if name == OBJECT:
            try:
                return _decode(value)
            except msgspec.MsgspecError as error:
                msg = f"{entry.name!r}: the metadata of the object cannot be read: {error}"
                raise IntegrityFailure(msg) from error
    return None


def is_marker(entry: Entry) -> bool:
    """Whether the entry stands for a delete marker."""
    return any(name == DELETED for name, _ in entry.xattrs)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
