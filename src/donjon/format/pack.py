"""Packs: many sealed frames, a sealed footer that lists them, and a signed trailer.

A frame is what is compressed and sealed at once: one large chunk or a run of small ones. See
``docs/format.md``, "Packs".
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from donjon.codec.chunk import MAX_CHUNK_BYTES
from donjon.codec.digest import derive
from donjon.codec.pad import padme
from donjon.codec.seal import BOX_BYTES, TAG_BYTES, Sealer
from donjon.codec.sign import SigningKey, verify
from donjon.core.errors import IntegrityFailure, UnsupportedVersion
from donjon.format.entries import CHUNK_ID_BYTES

VERSION = 1
#: A frame is closed once it holds this much, so it stays below this plus one chunk.
FRAME_TARGET_BYTES = 1 << 20
MAX_FRAME_RAW_BYTES = FRAME_TARGET_BYTES + MAX_CHUNK_BYTES
MAX_PACK_BYTES = 512 << 20

_TRAILER = struct.Struct("<4sBBH16s16sQII36s32s64s")
TRAILER_BYTES = _TRAILER.size
_SIGNED_BYTES = TRAILER_BYTES - 64
_COUNTS = struct.Struct("<II")
_FRAME = struct.Struct("<QIIHBx")
_CHUNK = struct.Struct("<32sI")
_MAGIC = b"DNJP"
_DOMAIN = b"donjon/v1/pack\0"
_LENGTH = struct.Struct("<Q")


class PackKind(enum.IntEnum):
    """What the chunks of a pack are."""

    DATA = 1
    METADATA = 2


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a pack. ``number`` is its nonce under the session key; ``chunks`` are (id, length)."""

    number: int
    sealed_bytes: int
    raw_bytes: int
    compression: int
    chunks: Sequence[tuple[bytes, int]]


@dataclass(frozen=True, slots=True)
class Trailer:
    """The open end of a pack: whose it is, and the digest of all that comes before it."""

    kind: int
    vault_id: bytes
    writer: bytes
    session: int
    ordinal: int
    sealed_footer_length: bytes
    digest: bytes
    signature: bytes


def footer_key(index_key: bytes, writer: bytes, session: int, ordinal: int) -> bytes:
    """The key of one pack's footer; it seals two boxes."""
    place = writer + session.to_bytes(8, "little") + ordinal.to_bytes(4, "little")
    return derive("donjon v1 pack footer", index_key + place)


def seal_footer(key: bytes, frames: Sequence[Frame], body_bytes: int) -> tuple[bytes, bytes]:
    """The sealed footer, padded so that the pack gets a PADMÉ size, and its sealed length."""
    parts = [_COUNTS.pack(len(frames), sum(len(frame.chunks) for frame in frames))]
    parts += [
        _FRAME.pack(f.number, f.sealed_bytes, f.raw_bytes, len(f.chunks), f.compression) for f in frames
    ]
    parts += [_CHUNK.pack(chunk, length) for frame in frames for chunk, length in frame.chunks]
    plain = b"".join(parts)
    least = body_bytes + len(plain) + BOX_BYTES + TRAILER_BYTES
    sealer = Sealer(key)
    footer = sealer.box(plain + bytes(padme(least) - least))
    return footer, sealer.box(_LENGTH.pack(len(footer)))


def end_bytes(frames: int, chunks: int) -> int:
    """Size of footer and trailer of a pack of so many frames and chunks, before padding."""
    return _COUNTS.size + _FRAME.size * frames + _CHUNK.size * chunks + BOX_BYTES + TRAILER_BYTES


def sign_trailer(trailer: Trailer, signer: SigningKey) -> bytes:
    """The bytes of a trailer; the signature it comes with is replaced."""
    fields = _trailer_bytes(trailer)[:_SIGNED_BYTES]
    return fields + signer.sign(_DOMAIN + fields)


def _trailer_bytes(t: Trailer) -> bytes:
    return _TRAILER.pack(
        _MAGIC,
        VERSION,
        t.kind,
        0,
        t.vault_id,
        t.writer,
        t.session,
        t.ordinal,
        0,
        t.sealed_footer_length,
        t.digest,
        t.signature,
    )


def parse_trailer(data: bytes, what: str) -> Trailer:
    """The last ``TRAILER_BYTES`` of a pack, **not yet verified**.

    Raises ``IntegrityFailure`` or ``UnsupportedVersion``.
    """
    if len(data) != TRAILER_BYTES or data[:4] != _MAGIC:
        msg = f"{what}: does not end like a pack"
        raise IntegrityFailure(msg, hint="It was cut short, damaged or replaced; run `donjon verify`.")
    if data[4] != VERSION:
        msg = f"{what}: has pack version {data[4]}; this Donjon reads version {VERSION}"
        raise UnsupportedVersion(msg, hint="Install a newer Donjon.")
    _, _, kind, zero, vault_id, writer, session, ordinal, reserved, length, digest, signature = (
        _TRAILER.unpack(data)
    )
    if kind not in (PackKind.DATA, PackKind.METADATA) or zero or reserved:
        msg = f"{what}: its trailer is damaged"
        raise IntegrityFailure(msg)
    return Trailer(kind, vault_id, writer, session, ordinal, length, digest, signature)


def verify_trailer(trailer: Trailer, vault_id: bytes, public: bytes, what: str) -> None:
    """Raises ``IntegrityFailure`` unless the writer signed this trailer for this vault."""
    try:
        if trailer.vault_id != vault_id:
            raise IntegrityFailure("")
        verify(public, _DOMAIN + _trailer_bytes(trailer)[:_SIGNED_BYTES], trailer.signature)
    except IntegrityFailure as error:
        msg = f"{what}: the signature of its trailer is wrong"
        raise IntegrityFailure(msg, hint="It was changed, damaged or put there by somebody else.") from error


def footer_length(key: bytes, trailer: Trailer, pack_bytes: int, what: str) -> int:
    """Bytes of the sealed footer. Raises ``IntegrityFailure`` if it cannot be right."""
    (length,) = _LENGTH.unpack(Sealer(key).open_box(trailer.sealed_footer_length, what))
    if pack_bytes > MAX_PACK_BYTES or not _COUNTS.size + BOX_BYTES <= length <= pack_bytes - TRAILER_BYTES:
        msg = f"{what}: its footer cannot have {length} bytes"
        raise IntegrityFailure(msg)
    return int(length)


def open_footer(key: bytes, sealed: bytes, body_bytes: int, what: str) -> list[Frame]:
    """The frames of a pack, in order. Raises ``IntegrityFailure``.

    Counts are checked against the bytes at hand before anything is built from them.
    """
    plain = Sealer(key).open_box(sealed, what)
    if len(plain) < _COUNTS.size:
        raise _short(what)
    frame_count, chunk_count = _COUNTS.unpack_from(plain)
    chunks_at = _COUNTS.size + frame_count * _FRAME.size
    end = chunks_at + chunk_count * _CHUNK.size
    if end > len(plain):
        raise _short(what)
    chunks = list(_CHUNK.iter_unpack(memoryview(plain)[chunks_at:end]))
    frames: list[Frame] = []
    taken = total = 0
    for number, sealed_bytes, raw, count, coding in _FRAME.iter_unpack(
        memoryview(plain)[_COUNTS.size : chunks_at]
    ):
        frames.append(Frame(number, sealed_bytes, raw, coding, chunks[taken : taken + count]))
        taken += count
        total += sealed_bytes
        check_frame(frames[-1], what)
    if taken != chunk_count or total != body_bytes:
        msg = f"{what}: its footer does not add up"
        raise IntegrityFailure(msg)
    return frames


def _short(what: str) -> IntegrityFailure:
    return IntegrityFailure(f"{what}: its footer is shorter than it says")


def check_frame(frame: Frame, what: str) -> None:
    """Raises ``IntegrityFailure`` for a frame whose sizes no writer makes."""
    if (
        frame.raw_bytes > MAX_FRAME_RAW_BYTES
        or not TAG_BYTES <= frame.sealed_bytes <= MAX_FRAME_RAW_BYTES + TAG_BYTES
        or sum(length for _, length in frame.chunks) != frame.raw_bytes
        or any(len(chunk) != CHUNK_ID_BYTES for chunk, _ in frame.chunks)
    ):
        msg = f"{what}: a frame of its footer cannot be right"
        raise IntegrityFailure(msg)
