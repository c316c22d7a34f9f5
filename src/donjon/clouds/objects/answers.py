"""What the status of an answer means, at the providers that have no code of their own for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from donjon.clouds.objects.base import Listed, ObjectChanged
from donjon.core.errors import DonjonError, ObjectNotFound, PermissionMissing, StoreError, StoreUnavailable

RETRYABLE = frozenset({408, 429, 500, 502, 503, 504})


def error_for(status: int, what: str, needed: str, told: str, *, of_object: bool) -> DonjonError:
    """Our error; ``needed`` names the permission, ``told`` is what the provider says."""
    if status == 404 and of_object:
        return ObjectNotFound(f"{what}: is not there")
    if status == 404:
        return StoreError(f"{what}: there is no such bucket or container", hint="Correct the address.")
    if status in {409, 412}:
        return ObjectChanged(f"{what}: has changed, or is there already: {told}")
    if status in {401, 403}:
        return PermissionMissing(
            f"{what}: was refused (needs {needed}): {told}",
            hint=f"Grant {needed} to the account that is used here.",
        )
    if status in RETRYABLE:
        return StoreUnavailable(f"{what}: {told}", hint="Look at the state of the service, then try again.")
    return StoreError(f"{what}: status {status}: {told}", hint="Look at the bucket and the service's log.")


def newest_first(rows: Iterable[Listed]) -> Iterator[Listed]:
    """The rows of each key the other way round. Only those of one key are in memory."""
    for _, versions in groupby(rows, key=lambda row: row.key):
        yield from reversed(list(versions))


def in_pages(rows: Iterable[Listed], rows_each: int = 1000) -> Iterator[list[Listed]]:
    """A stream in pages."""
    page: list[Listed] = []
    for row in rows:
        page.append(row)
        if len(page) == rows_each:
            yield page
            page = []
    if page:
        yield page
