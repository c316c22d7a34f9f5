"""Content-defined chunking with FastCDC 2020, seeded per vault so that cut points tell nothing.

Source: Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage
Systems", IEEE TPDS 2020; normalisation level 1. The seed alters the gear table as in ``pyfastcdc``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from donjon.core.units import KIB, MIB

if TYPE_CHECKING:
    from pyfastcdc import FastCDC

#: No chunk of any vault is larger, so a reader may refuse what claims to be.
MAX_CHUNK_BYTES = 4 * MIB


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bounds and average of chunk sizes, in bytes."""

    minimum: int = 256 * KIB
    average: int = 1 * MIB
    maximum: int = MAX_CHUNK_BYTES


class Chunker:
    """Cuts buffers. Not to be used by two threads at once."""

    def __init__(self, sizes: Sizes, seed: int) -> None:
        from pyfastcdc import FastCDC

        self.sizes = sizes
        self._cdc: FastCDC = FastCDC(
            sizes.average,
            min_size=sizes.minimum,
            max_size=sizes.maximum,
            normalized_chunking=1,
            seed=seed,
        )

    def cut(self, buffer: memoryview, *, final: bool) -> list[int]:
        """Lengths of the chunks at the start of ``buffer``.

        Without ``final`` more data follows, so that the last cut is not decided yet: its length is left
        out and its bytes belong at the start of the next buffer, which must therefore be larger than
        the maximum chunk. With ``final`` the lengths add up to the whole buffer.
        """
        size = len(buffer)
        if size == 0:
            return []
        if size <= self.sizes.minimum:
            return [size] if final else []
        lengths = [chunk.length for chunk in self._cdc.cut_buf(buffer)]
        if not final:
            lengths.pop()
        return lengths
