"""Writing large pieces of a file past the page cache, which costs more than the disk does.

What is restored is rarely read at once, and what production keeps in the cache stays there. The kernel
wants file offsets, lengths and memory on block boundaries: the edges of a piece go through the cache,
each in pages that nothing direct touches. See open(2), "O_DIRECT".
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import queue
from typing import Final

from donjon.core.units import MIB

#: So that what goes through the cache shares no page with what does not. No file system asks for more.
ALIGNMENT: Final = mmap.PAGESIZE
_BUFFER_BYTES: Final = MIB
#: What a file system says that takes no direct writes, or none like this one.
_UNSUITED: Final = frozenset({errno.EINVAL, errno.ENOTSUP})


class DirectFile:
    """A second descriptor of an open file. ``write`` may be called from many threads.

    Where the system or the file system has no such thing, or the user may not open the file again,
    ``write`` writes nothing.
    """

    __slots__ = ("_buffers", "_fd")

    def __init__(self, fd: int, size_bytes: int) -> None:
        """``size_bytes`` is set now: the kernel takes writes that make a file longer one at a time."""
        self._buffers: queue.SimpleQueue[mmap.mmap] = queue.SimpleQueue()
        self._fd = -1
        with contextlib.suppress(OSError, AttributeError):
            self._fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_CLOEXEC | os.O_DIRECT)
            os.ftruncate(fd, size_bytes)

    def write(self, data: memoryview, offset: int) -> int:
        """Write the start of ``data``; how many bytes, the rest is up to the caller.

        Writes nothing unless ``offset`` is a multiple of ``ALIGNMENT``. Raises ``OSError``.
        """
        if self._fd < 0 or offset % ALIGNMENT:
            return 0
        try:
            buffer = self._buffers.get_nowait()
        except queue.Empty:
            buffer = mmap.mmap(-1, _BUFFER_BYTES)
        end = len(data) - len(data) % ALIGNMENT
        done = 0
        try:
            with memoryview(buffer) as aligned:
                while done < end:
                    size = min(end - done, _BUFFER_BYTES)
                    aligned[:size] = data[done : done + size]
                    written = os.pwrite(self._fd, aligned[:size], offset + done)
                    done += written
                    if written < size:
                        break
        except OSError as error:
            if error.errno not in _UNSUITED:
                raise
        finally:
            self._buffers.put(buffer)
        return done

    def close(self) -> None:
        """No thread may be writing. Never raises."""
        fd, self._fd = self._fd, -1
        with contextlib.suppress(OSError):
            if fd >= 0:
                os.close(fd)
