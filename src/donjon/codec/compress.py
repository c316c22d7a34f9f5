"""Zstandard, with a cheap sample that spares data which does not compress."""

from __future__ import annotations

import enum
import threading

import zstandard

from donjon.core.errors import IntegrityFailure
from donjon.core.units import KIB

Buffer = bytes | memoryview

LEVEL = 3
_SAMPLE_BYTES = 4 * KIB
_SAMPLE_ABOVE_BYTES = 64 * KIB
_SAMPLE_COUNT = 8
#: A sample that shrinks by less than this share is not worth compressing.
_WORTHWHILE = 0.97


class Compression(enum.IntEnum):
    """How the bytes of a frame are coded."""

    NONE = 0
    ZSTD = 1


_local = threading.local()


def _compressor(level: int) -> zstandard.ZstdCompressor:
    # Contexts hold megabytes of tables and are not safe to share: one per thread and level.
    cached: dict[int, zstandard.ZstdCompressor] = _local.__dict__.setdefault("compressors", {})
    if level not in cached:
        cached[level] = zstandard.ZstdCompressor(level=level, write_checksum=False, write_content_size=True)
    return cached[level]


def _looks_compressible(data: memoryview) -> bool:
    """Whether eight evenly spread pieces of 4 KiB shrink when compressed together."""
    step = (len(data) - _SAMPLE_BYTES) // (_SAMPLE_COUNT - 1)
    sample = b"".join(data[i * step : i * step + _SAMPLE_BYTES] for i in range(_SAMPLE_COUNT))
    return len(_compressor(1).compress(sample)) < _WORTHWHILE * len(sample)


def compress(data: memoryview, level: int = LEVEL) -> tuple[Compression, Buffer]:
    """The coding chosen and the coded bytes, which may be ``data`` itself."""
    if len(data) > _SAMPLE_ABOVE_BYTES and not _looks_compressible(data):
        return Compression.NONE, data
    coded = _compressor(level).compress(data)
    if len(coded) >= len(data):
        return Compression.NONE, data
    return Compression.ZSTD, coded


def decompress(coding: int, data: Buffer, raw_bytes: int, what: str) -> Buffer:
    """The ``raw_bytes`` bytes that were coded; ``what`` names the object in errors.

    Never allocates more than ``raw_bytes``, which the caller has bounded. Raises
    ``IntegrityFailure`` if the data is not what it claims to be.
    """
    if coding == Compression.NONE:
        if len(data) != raw_bytes:
            msg = f"{what}: a frame has {len(data)} bytes, its footer says {raw_bytes}"
            raise IntegrityFailure(msg)
        return data
    if coding != Compression.ZSTD:
        msg = f"{what}: unknown compression {coding}"
        raise IntegrityFailure(msg, hint="It may have been written by a newer Donjon.")
    try:
        declared = zstandard.frame_content_size(data)
        if declared != raw_bytes:
            msg = f"{what}: a frame declares {declared} bytes, its footer says {raw_bytes}"
            raise IntegrityFailure(msg)
        decompressor = _local.__dict__.get("decompressor")
        if decompressor is None:
            decompressor = _local.decompressor = zstandard.ZstdDecompressor()
        raw: bytes = decompressor.decompress(data, max_output_size=raw_bytes, allow_extra_data=False)
    except zstandard.ZstdError as error:
        msg = f"{what}: a frame does not decompress: {error}"
        raise IntegrityFailure(msg) from error
    return raw
