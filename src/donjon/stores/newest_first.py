"""The order of versions in a listing, for providers that give them oldest first."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from donjon.stores.base import ObjectInfo


def newest_first(entries: Iterable[ObjectInfo]) -> Iterator[ObjectInfo]:
    """The same listing, sorted by name as it was, with the newest version of each name first.

    Fits providers whose ids of versions grow: numbers, or times of one length.
    """
    for _, versions in itertools.groupby(entries, key=lambda info: info.name):
        yield from sorted(versions, key=lambda info: (len(info.version or ""), info.version), reverse=True)
