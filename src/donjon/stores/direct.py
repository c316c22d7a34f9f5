"""Large writes that leave the page cache alone.

A pack is written once and seldom read. Through the page cache, 64 MiB cost 30 to 150 ms of processor
time here (the more, the less memory the machine had touched before), past it 2 to 4 ms, and what
production keeps in the cache stays there. ``O_DIRECT`` wants aligned memory, such as an ``mmap``; other
buffers go through the cache, and their pages are dropped afterwards. See open(2), "O_DIRECT".
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator

from donjon.core.units import MIB

#: Smaller ones are not worth the two extra calls.
LARGE_BYTES = MIB
#: No file system asks for more than the size of a page.
_ALIGNMENT = 4096


def write_all(descriptor: int, view: memoryview) -> None:
    """Write all of ``view`` at the descriptor's position. Raises ``OSError``; ENOSPC before writing.

    The caller syncs, and then calls ``drop_cache``.
    """
    done = 0
    if len(view) >= LARGE_BYTES:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, len(view))
        whole = len(view) - len(view) % _ALIGNMENT
        with _past_the_cache(descriptor):
            while done < whole:
                done += os.write(descriptor, view[done:whole])
    while done < len(view):
        done += os.write(descriptor, view[done:])


def drop_cache(descriptor: int, offset: int, size_bytes: int) -> None:
    """Let the kernel forget the pages of a large, synced write."""
    if size_bytes >= LARGE_BYTES and hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, offset, size_bytes, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def _past_the_cache(descriptor: int) -> Iterator[None]:
    """Set O_DIRECT for the body, which ends early and silently where the buffer does not suit it.

    Without O_DIRECT (macOS, some file systems) the body runs all the same, through the cache.
    """
    before = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    with contextlib.suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETFL, before | getattr(os, "O_DIRECT", 0))
    try:
        yield
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, before)
