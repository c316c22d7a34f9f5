"""The objects of a bucket as a tree: ``objects/`` has what is current, ``versions/`` what was before.

See ``docs/workloads/bucket.md`` for the names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from donjon.clouds.objects.base import Listed, Objects
from donjon.core.errors import SourceFailed, StoreError, StoreUnavailable
from donjon.core.events import StopCheck, never_stop
from donjon.sources.base import Item
from donjon.sources.bucket.item import BucketItem, Reading
from donjon.sources.bucket.listing import SEPARATOR, Listing

#: Requests under way. A small object takes a millisecond nearby and tens of them from afar.
THREADS: Final = 16

#: Gives the list of the bucket, page by page, in place of the bucket itself.
Pages = Callable[[], Iterator[list[Listed]]]


class BucketSource:
    """See ``Source``. ``pages`` is another list of the same objects, such as an inventory.

    It also tells beforehand what will be opened, so that many requests are under way at once: see
    ``sources.base.Expecting``. What they bring waits in memory, no more than the batches of the walk hold.
    """

    def __init__(
        self,
        objects: Objects,
        *,
        versions: bool = False,
        pages: Pages | None = None,
        threads: int = THREADS,
        stop: StopCheck = never_stop,
    ) -> None:
        self._objects = objects
        self._versions = versions
        self._pages = pages
        self._stop = stop
        self._reading = Reading(objects, threads)

    def items(self) -> Iterator[Item]:
        """List the bucket, then give what is in it. May be consumed once.

        Raises ``PermissionMissing``, and ``SourceFailed`` if the list cannot be had.
        """
        listing = Listing(self._objects.prefix)
        try:
            listing.fill(self._listed(), versions=self._versions)
            yield from self._tree(listing)
        finally:
            listing.close()

    def expect(self, item: Item) -> None:
        """Begin to read an item that will be opened soon."""
        if isinstance(item, BucketItem):
            item.expect()

    def problems(self) -> list[tuple[bytes, str]]:
        """Nothing: a list comes whole or not at all."""
        return []

    def close(self) -> None:
        """End the threads; what has not been asked for yet is not."""
        self._reading.pool.shutdown(wait=True, cancel_futures=True)

    def _listed(self) -> Iterator[list[Listed]]:
        pages = self._pages() if self._pages else self._objects.pages(versions=self._versions)
        try:
            for page in pages:
                self._stop()
                yield page
        except StoreUnavailable as error:
            raise SourceFailed(error.message, hint=error.hint, retryable=True) from error
        except StoreError as error:
            raise SourceFailed(error.message, hint=error.hint) from error

    def _tree(self, listing: Listing) -> Iterator[Item]:
        """The rows, each after the directories that it is in."""
        reading = self._reading
        above: list[bytes] = []
        prefix = b""
        depth = 0
        for place, listed in listing.rows():
            name = place[len(prefix) :]
            if not place.startswith(prefix) or SEPARATOR in name:
                *folders, name = place.split(SEPARATOR)
                shared = 0
                while shared < min(len(above), len(folders)) and above[shared] == folders[shared]:
                    shared += 1
                for depth in range(shared, len(folders)):
                    inside = SEPARATOR.join(folders[: depth + 1])
                    yield BucketItem(depth, folders[depth], False, inside, None, reading)
                above, depth = folders, len(folders)
                prefix = SEPARATOR.join(folders) + SEPARATOR
            yield BucketItem(depth, name, True, place, listed, reading, bool(listed.version))
