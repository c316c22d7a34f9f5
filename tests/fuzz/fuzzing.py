"""Hostile bytes for parsers: valid examples that were changed, for as long as ``DONJON_FUZZ_SECONDS`` says.

Most parsers stand behind a signature or a seal, which no mutation gets past. So the targets change what is
inside and sign and seal it again, as a stolen writer key could.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from donjon.core.errors import DonjonError

SECONDS = float(os.environ.get("DONJON_FUZZ_SECONDS", "0.7"))
#: No parser and hypothesis may need more than this in a batch of examples, whatever they say of themselves.
MAX_GROWTH_BYTES = 512 << 20

_BATCH = 150
#: Examples that are larger are not made larger still.
_MAX_REPEATED_BYTES = 8 << 10
_ODD_BYTES = (
    b"",
    b"\0",
    b"/",
    b"..",
    b"a/../b",
    b"\xff" * 4,
    b"\xff" * 8,
    b"\xc6\xff\xff\xff\xff",  # MessagePack: 4 GiB of bytes follow
    b"\xdd\xff\xff\xff\xff",  # MessagePack: 2^32 - 1 elements follow
    b"\x91" * 100,  # MessagePack: arrays in arrays
    b"\x91" * 100_000,
    b"\x28\xb5\x2f\xfd",  # Zstandard
)
_ODD_NUMBERS = (-(2**63), -1, 0, 1, 2, 31, 32, 4095, 4096, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**64 - 1)

_PEAK = Path("/proc/self/clear_refs")

Parse = Callable[[Any], object]


def fuzz(parse: Parse, hostile: st.SearchStrategy[Any]) -> int:
    """Feed a parser until the time is over; how often it was called.

    Any exception but ours fails the test, and hypothesis shows the smallest input that it found for it.
    """
    end = time.monotonic() + SECONDS
    calls = 0

    @settings(
        max_examples=_BATCH,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(hostile)
    def attempt(example: Any) -> None:
        nonlocal calls
        calls += 1
        with contextlib.suppress(DonjonError):
            parse(example)

    while time.monotonic() < end:
        _PEAK.write_text("5")  # proc(5), clear_refs: the peak is what is resident now
        before = _resident_bytes("VmRSS")
        attempt()
        assert _resident_bytes("VmHWM") - before < MAX_GROWTH_BYTES
    return calls


def _resident_bytes(field: str) -> int:
    """A line of ``/proc/self/status``."""
    [size] = re.findall(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(size) * 1024


def changed_bytes(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Seeds with some of their bytes changed, cut, repeated, or replaced by parts of other seeds."""

    @st.composite
    def build(draw: st.DrawFn) -> bytes:
        data = draw(st.sampled_from(seeds))
        for _ in range(draw(st.integers(0, 4))):
            at = draw(st.integers(0, len(data)))
            size = draw(st.sampled_from((0, 1, 1, 1, 2, 4, 8, 32)))
            change = _replacement(draw, seeds, at, size)
            end = draw(st.sampled_from((at, at + size, at + len(change), len(data))))
            data = data[:at] + change + data[end:]
        return data

    return build()


def _replacement(draw: st.DrawFn, seeds: Sequence[bytes], at: int, size: int) -> bytes:
    match draw(st.sampled_from(["random", "odd", "number", "other"])):
        case "random":
            return draw(st.binary(min_size=size, max_size=size))
        case "odd":
            return draw(st.sampled_from(_ODD_BYTES))
        case "number":
            return (draw(st.sampled_from(_ODD_NUMBERS)) % 2**64).to_bytes(8, "little")[: size or 8]
        case _:
            return draw(st.sampled_from(seeds))[at : at + 4 * size]


def changed_text(seeds: Sequence[str]) -> st.SearchStrategy[str]:
    """Texts like these, and anything else."""
    texts = changed_bytes([seed.encode() for seed in seeds]).map(lambda data: data.decode(errors="replace"))
    return st.one_of(texts, st.text(max_size=50))


def changed_values(seeds: Sequence[Any]) -> st.SearchStrategy[bytes]:
    """MessagePack of seeds in which some values, at any depth, were changed; now and then broken bytes."""

    @st.composite
    def build(draw: st.DrawFn) -> bytes:
        value = draw(st.sampled_from(seeds))
        for _ in range(draw(st.integers(1, 3))):
            value = _change(draw, value)
        return msgspec.msgpack.encode(value)

    return st.one_of(build(), changed_bytes([msgspec.msgpack.encode(seed) for seed in seeds]))


def _change(draw: st.DrawFn, value: Any) -> Any:
    if isinstance(value, list) and value and draw(st.integers(0, 9)):
        items = list(value)
        place = draw(st.integers(0, len(items) - 1))
        match draw(st.sampled_from("vvvvvvdrs")):
            case "v":
                items[place] = _change(draw, items[place])
            case "d":
                del items[place]
            case "r" if len(msgspec.msgpack.encode(items)) < _MAX_REPEATED_BYTES:
                items[place:place] = [items[place]] * draw(st.sampled_from((1, 2, 300)))
            case _:
                items[place], items[0] = items[0], items[place]
        return items
    if isinstance(value, bytes) and draw(st.booleans()):
        return draw(changed_bytes([value]))
    if isinstance(value, int) and draw(st.booleans()):
        return draw(st.sampled_from([n for n in (value - 1, value + 1) if -(2**63) <= n < 2**64]))
    return draw(
        st.one_of(
            st.sampled_from(_ODD_NUMBERS),
            st.sampled_from(_ODD_BYTES[:5]),
            st.integers(-(2**63), 2**64 - 1),
            st.binary(max_size=80),
            st.text(max_size=10),
            st.none(),
            st.booleans(),
            st.just([]),
            st.just([[]] * 3),
            st.floats(),
            st.just({}),
        )
    )
