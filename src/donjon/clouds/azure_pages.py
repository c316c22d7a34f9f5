"""The pages of a managed disk of Azure: which there are, what has changed, their bytes.

Azure shows a disk as a fixed VHD: its bytes, and behind them a footer of 512 bytes that is not part of it.
Rules: https://learn.microsoft.com/rest/api/storageservices/get-page-ranges and .../put-page
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from donjon.clouds import azure_disk_faults as faults
from donjon.clouds.azure_disk import Access
from donjon.clouds.vhd import FOOTER_BYTES
from donjon.core.units import GIB, MIB

PAGE_BYTES: Final = 512
#: The most that one Put Page takes, and one read whose MD5 the service tells.
MOST_BYTES: Final = 4 * MIB
#: So much of a disk is asked about at a time.
WINDOW_BYTES: Final = 16 * GIB


class PageBlob:
    """A disk of ``size`` bytes, without its footer. Safe to share between threads."""

    def __init__(self, access: Access, size: int) -> None:
        self.access: Final = access
        self.size: Final = size

    def check_size(self) -> None:
        """Raises ``SourceFailed`` if what Azure shows is of another size than the disk."""
        found = int(self.access.use(faults.READ, lambda blob: blob.get_blob_properties().size))
        if found != self.size + FOOTER_BYTES:
            text = f"it has {found} bytes, and {self.size} with a footer of {FOOTER_BYTES} were expected"
            raise faults.failed(faults.READ, str(self.access.place), text, hint="Use a newer Donjon.")

    def ranges(self, offset: int = 0, length: int | None = None) -> Iterator[tuple[int, int]]:
        """(offset, length) of the pages that were ever written; what is between them reads as zeros."""
        for start, count in _windows(offset, self.size if length is None else offset + length):
            # Whole before any is given, so that it can be asked for again.
            found = self.access.use(faults.RANGES, partial(_written, start=start, count=count))
            yield from self._clipped(found, start + count)

    def changes(self, previous: Access) -> Iterator[tuple[int, int, bool]]:
        """(offset, length, was cleared) of what differs from a previous snapshot, ascending."""
        waiting = list(reversed(list(_windows(0, self.size))))
        while waiting:
            start, count = waiting.pop()
            found = self._difference(previous, start, count)
            if found is None:  # too much for one answer, and the SDK hides how to go on
                half = max(count // 2 // PAGE_BYTES, 1) * PAGE_BYTES
                waiting += [(start + half, count - half), (start, half)]
                continue
            at = start
            for first, end, cleared in sorted(found):
                begin, stop = max(first, at), min(end, start + count)
                if begin < stop:
                    yield begin, stop - begin, cleared
                    at = stop

    def _difference(self, previous: Access, start: int, count: int) -> list[tuple[int, int, bool]] | None:
        """What differs in a window; None if the answer was not whole."""

        def ask(blob: Any) -> list[tuple[int, int, bool]] | None:
            url = previous.url()
            answers: list[bytes] = []
            try:
                changed, cleared = blob.get_page_range_diff_for_managed_disk(
                    url, offset=start, length=count,
                    raw_response_hook=lambda answer: answers.append(answer.http_response.body()),
                )  # fmt: skip
            except Exception as error:
                if faults.is_signature_refused(error):  # which of the two it was is not told
                    previous.renew(url)
                raise
            if _goes_on(answers[-1]) and count > PAGE_BYTES:
                return None
            return [(one["start"], one["end"] + 1, False) for one in changed] + [
                (one["start"], one["end"] + 1, True) for one in cleared
            ]

        return self.access.use(faults.CHANGES, ask)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer; every piece is checked against the MD5 that the service tells."""
        done = 0
        while done < len(buffer):
            count = min(MOST_BYTES, len(buffer) - done)
            piece = partial(self._read, offset + done, count)
            buffer[done : done + count] = self.access.use(faults.READ, piece)
            done += count

    def _read(self, offset: int, count: int, blob: Any) -> bytes:
        found = blob.download_blob(
            offset=offset, length=count, validate_content=True, raw_response_hook=_hide_type
        )
        data = bytes(found.readall())
        if len(data) != count:
            text = f"{len(data)} bytes arrived from offset {offset} in place of {count}"
            raise faults.failed(faults.READ, str(self.access.place), text, retryable=True)
        return data

    def write(self, offset: int, data: bytes) -> None:
        """Write whole pages, ``MOST_BYTES`` at most, with their MD5. They may be written again."""
        self.access.use(
            faults.WRITE, lambda blob: blob.upload_page(data, offset, len(data), validate_content=True)
        )

    def _clipped(self, found: list[tuple[int, int]], limit: int) -> Iterator[tuple[int, int]]:
        for start, end in found:
            if start < limit:
                yield start, min(end, limit) - start


def _written(blob: Any, start: int, count: int) -> list[tuple[int, int]]:
    """(start, end) of the pages of a part that were ever written."""
    return [(one.start, one.end + 1) for one in blob.list_page_ranges(offset=start, length=count)]


def _windows(start: int, end: int) -> Iterator[tuple[int, int]]:
    for at in range(start, end, WINDOW_BYTES):
        yield at, min(WINDOW_BYTES, end - at)


def _hide_type(answer: Any) -> None:
    """Behind each read of what is a page blob, the SDK asks for all page ranges of the whole disk."""
    answer.http_response.headers.pop("x-ms-blob-type", None)


def _goes_on(body: bytes) -> bool:
    """Whether an answer names a marker for more (service versions since 2020-10-02)."""
    _, found, rest = body.partition(b"<NextMarker>")
    return bool(found) and not rest.startswith(b"</NextMarker>")
