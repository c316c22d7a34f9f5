"""What claims to be huge is refused before anything is built from it."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable

import msgspec
import pytest
import zstandard

from donjon.codec.compress import decompress
from donjon.codec.seal import Sealer
from donjon.core.errors import IntegrityFailure
from donjon.format.entries import Entry
from donjon.format.manifest import Manifest
from donjon.format.objects import ObjectKind, parse_object
from donjon.format.pack import open_footer
from donjon.format.segments import decode_problems, decode_root, decode_segment
from donjon.format.table import Table

MIB = 1 << 20
Decode = Callable[[bytes, str], object]
DECODERS = pytest.mark.parametrize("decode", [decode_segment, decode_root, decode_problems])


def refused_within(size_bytes: int, parse: Callable[[], object]) -> None:
    """Raises IntegrityFailure, and takes no more memory on the way."""
    tracemalloc.start()
    try:
        with pytest.raises(IntegrityFailure):
            parse()
        assert tracemalloc.get_traced_memory()[1] < size_bytes
    finally:
        tracemalloc.stop()


@DECODERS
def test_lists_of_metadata_are_refused_by_their_length(decode: Decode) -> None:
    """Five megabytes of the smallest elements would be hundreds of megabytes of objects."""
    entry = msgspec.msgpack.encode([0, b"a", 1])
    bomb = b"\xdd" + struct.pack(">I", 700_000) + entry * 700_000
    refused_within(MIB, lambda: decode(bomb, "bomb"))


@DECODERS
def test_lists_that_hold_less_than_they_say_are_refused(decode: Decode) -> None:
    refused_within(MIB, lambda: decode(b"\xdd\xff\xff\xff\xff", "bomb"))
    refused_within(MIB, lambda: decode(b"\x91" * 1_000_000, "nested"))


def test_a_segment_of_the_largest_size_is_read() -> None:
    entries = [Entry(0, b"%04d" % number, 1) for number in range(4096)]
    assert decode_segment(msgspec.msgpack.encode(entries), "full") == entries
    with pytest.raises(IntegrityFailure):
        decode_segment(msgspec.msgpack.encode([*entries, Entry(0, b"x", 1)]), "too full")


@pytest.mark.parametrize("declared", [100, MIB])
def test_a_zip_bomb_is_refused(declared: int) -> None:
    """Whether its header is honest or not, no more comes out than the footer said."""
    honest = zstandard.ZstdCompressor().compress(bytes(256 * MIB))
    refused_within(2 * MIB, lambda: decompress(1, honest, declared, "bomb"))
    parameters = zstandard.ZstdCompressionParameters.from_level(3, write_content_size=False)
    silent = zstandard.ZstdCompressor(compression_params=parameters).compress(bytes(256 * MIB))
    refused_within(2 * MIB, lambda: decompress(1, silent, declared, "bomb"))


def test_counts_of_a_footer_are_checked_against_its_bytes() -> None:
    key = bytes(32)
    for counts in ((2**32 - 1, 0), (0, 2**32 - 1), (2**32 - 1, 2**32 - 1)):
        box = Sealer(key).box(struct.pack("<II", *counts) + bytes(100))
        refused_within(MIB, lambda box=box: open_footer(key, box, 0, "footer"))  # type: ignore[misc]


def test_counts_of_a_table_are_checked_against_its_bytes() -> None:
    refused_within(MIB, lambda: Table(b"DNJT" + b"\xff" * 12 + bytes(1000), "table"))


def test_a_manifest_cannot_name_more_packs_than_there_can_be() -> None:
    use = [bytes(16), 1, b"\xff" * (1 << 19)]
    fields = [bytes(16), 1, bytes(32), 1, 0, 0, [use, [bytes(16), 2, b"\x01"]], b""]
    payload = msgspec.msgpack.encode(fields)
    data = struct.pack("<4sBBHI", b"DNJN", 5, 1, 0, len(payload)) + payload + bytes(64)
    with pytest.raises(IntegrityFailure, match="uses"):
        parse_object(data, ObjectKind.MANIFEST, Manifest, "manifest")
