"""Marks as labels of Google Cloud, and back: pure.

Labels take lower-case letters, digits, ``_`` and ``-``, 63 at most
(https://docs.cloud.google.com/compute/docs/labeling-resources). Whatever else is written as ``_`` and two
hexadecimal digits of its UTF-8; what is longer goes on in ``NAME-2``, ``NAME-3``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_PLAIN: Final = re.compile(r"[^a-z0-9-]")
_ESCAPED: Final = re.compile(r"_([0-9a-f]{2})")
_VALUE: Final = re.compile(r"(?:[a-z0-9-]|_[0-9a-f]{2})*")
_MAX: Final = 63
_MAX_PARTS: Final = 9


def to_labels(tags: Mapping[str, str]) -> dict[str, str]:
    """Labels that say the same as ``tags``, whose names are labels already."""
    labels: dict[str, str] = {}
    for name, value in tags.items():
        text = escaped(value)
        for number, start in enumerate(range(0, max(len(text), 1), _MAX), 1):
            labels[name if number == 1 else f"{name}-{number}"] = text[start : start + _MAX]
    return labels


def from_labels(labels: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """The tags of these names; those that were made up badly are left out."""
    tags: dict[str, str] = {}
    for name in names:
        parts = [labels.get(name if part == 1 else f"{name}-{part}") for part in range(1, _MAX_PARTS + 1)]
        text = "".join(part for part in parts if part)
        if parts[0] is not None and _VALUE.fullmatch(text):
            raw = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
            try:
                tags[name] = raw.encode("latin-1").decode()
            except UnicodeDecodeError:
                continue
    return tags


def escaped(value: str) -> str:
    """A value as labels have it, of any length."""
    return _PLAIN.sub(lambda found: "".join(f"_{byte:02x}" for byte in found[0].encode()), value)
