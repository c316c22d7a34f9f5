"""The footer of a fixed VHD, behind the bytes of a disk that is uploaded to Azure.

Layout, checksum and geometry: Microsoft, Virtual Hard Disk Image Format Specification, version 1.0 of 11
October 2006, "Hard Disk Footer Format" and the appendix "CHS Calculation".
"""

from __future__ import annotations

import struct
from typing import Final

from donjon.core.units import MIB

FOOTER_BYTES: Final = 512
_SECTOR_BYTES: Final = 512
#: Times are in seconds from 2000-01-01 00:00 UTC.
_EPOCH_UNIX: Final = 946_684_800
_FIXED: Final = 2
_RESERVED: Final = 0x00000002  # this bit is always set
_VERSION: Final = 0x00010000
_NO_HEADER: Final = 0xFFFF_FFFF_FFFF_FFFF
_LAYOUT: Final = struct.Struct(">8sIIQI4sI4sQQHBBII16sB427x")
#: As Hyper-V names itself: readers then take the size from the footer, and not from the geometry.
_CREATOR: Final = (b"win ", 0x000A0000, b"Wi2k")
_LARGEST: Final = 65_535 * 16 * 255


def footer(size: int, *, unique_id: bytes, unix_s: int) -> bytes:
    """The footer for a disk of ``size`` bytes, a multiple of 512. ``unique_id`` are 16 bytes."""
    fields = (
        b"conectix", _RESERVED, _VERSION, _NO_HEADER, max(unix_s - _EPOCH_UNIX, 0), *_CREATOR,
        size, size, *_geometry(size // _SECTOR_BYTES), _FIXED,
    )  # fmt: skip
    without = _LAYOUT.pack(*fields, 0, unique_id, 0)
    checksum = ~sum(without) & 0xFFFF_FFFF
    return _LAYOUT.pack(*fields, checksum, unique_id, 0)


def whole_size(size: int) -> int:
    """What a disk of ``size`` bytes has in a VHD: Azure takes whole MiB alone.

    https://learn.microsoft.com/azure/virtual-machines/windows/prepare-for-upload-vhd-image
    """
    return -(-size // MIB) * MIB


def _geometry(sectors: int) -> tuple[int, int, int]:
    """Cylinders, heads and sectors of a track."""
    sectors = min(sectors, _LARGEST)
    if sectors >= 65_535 * 16 * 63:
        track, heads, tracks = 255, 16, sectors // 255
    else:
        track = 17
        tracks = sectors // track
        heads = max((tracks + 1023) // 1024, 4)
        if tracks >= heads * 1024 or heads > 16:
            track, heads = 31, 16
            tracks = sectors // track
        if tracks >= heads * 1024:
            track, heads = 63, 16
            tracks = sectors // track
    return tracks // heads, heads, track
