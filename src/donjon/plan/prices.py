"""What requests and storage cost, from tables that carry their date and source.

List prices in US dollars without discounts and taxes. They are there to compare plans, not to check bills.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars for 1,000 requests; ``writes`` are PUT, LIST and changes of a retention, ``reads`` the rest."""

    name: str
    writes_per_1000: float
    reads_per_1000: float
    date: str
    source: str

    def cost(self, writes: int, reads: int = 0) -> float:
        """Dollars for so many requests."""
        return (writes * self.writes_per_1000 + reads * self.reads_per_1000) / 1000


#: A medium of one's own.
FREE = Prices("none", 0, 0, "", "a folder or server of one's own")

_TABLES = (
    Prices(
        "s3",
        0.005,
        0.0004,
        "2026-11",
        "Amazon S3 Standard, us-east-1; PutObjectRetention is billed as a PUT",
    ),
    Prices(
        "gcs",
        0.005,
        0.0004,
        "2026-11",
        "Google Cloud Storage Standard, one region; a change of retention is a class A operation",
    ),
    FREE,
)

#: By the name that the command line takes.
PRICES = {table.name: table for table in _TABLES}
_BY_SCHEME = {"s3": "s3", "gs": "gcs"}


def prices_for(scheme: str) -> Prices | None:
    """The table for addresses of this scheme, None where Donjon knows no prices."""
    if scheme in ("file", "sftp", "memory"):
        return FREE
    name = _BY_SCHEME.get(scheme)
    return PRICES[name] if name else None
