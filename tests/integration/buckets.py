"""Buckets that are backed up without the command line, and what happens to them meanwhile."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

from donjon.backup.job import Job
from donjon.backup.run import Outcome, run_backup
from donjon.clouds.objects.base import Got, Listed, Metadata, Objects
from donjon.core.events import Silent
from donjon.format.entries import Entry
from donjon.repository.tree import Tree
from donjon.repository.vault import open_vault
from donjon.repository.writing import WriteSession
from donjon.sources.bucket.source import BucketSource
from tests.integration.engine import Place


class Meddled:
    """Objects that something else is done to whenever one is about to be read; and which are counted."""

    def __init__(self, inner: Objects, meddle: Callable[[Listed, int], None] = lambda *_: None) -> None:
        self._inner, self._meddle = inner, meddle
        self.reads: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def read(self, listed: Listed, **options: Any) -> Got:
        self.reads.append(listed.key)
        self._meddle(listed, len(self.reads))
        return self._inner.read(listed, **options)


def backup(place: Place, objects: Objects, *, read_all: bool = False, **options: Any) -> Outcome:
    """One backup of a bucket by the first host."""
    host, vault = place.host, open_vault(place.store)
    vault.use_secret(host.credential.secret)
    key, writer = host.credential.signing_key, host.credential.writer_id
    session = WriteSession(vault, key, writer, host.cache, host.clock)
    with closing(BucketSource(objects, **options)) as source:
        job = Job(source, "bucket", "host", (objects.url.encode(),), read_all=read_all)
        try:
            return run_backup(job, session, host.cache, host.clock, Silent())
        finally:
            session.close()


def entries(place: Place) -> dict[bytes, Entry]:
    """All entries of the newest point, by their paths."""
    vault = place.open()
    tree = Tree(place.points()[-1], place.reader(vault))

    def damaged(error: Exception) -> None:
        raise error

    return dict(tree.entries(b"", damaged))


def put_all(objects: Objects, contents: dict[str, bytes], metadata: Metadata | None = None) -> None:
    """Put many objects below the prefix."""
    put = functools.partial(objects.put, metadata=metadata or Metadata(), replace=True)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda item: put(objects.prefix + item[0], item[1]), contents.items()))


def contents_of(objects: Objects) -> dict[str, bytes]:
    """All that is below the prefix, read whole."""
    return {row.key[len(objects.prefix) :]: read_whole(objects, row) for row in listed(objects)}


def listed(objects: Objects) -> Iterator[Listed]:
    """All that is listed."""
    for page in objects.pages():
        yield from page


def read_whole(objects: Objects, row: Listed) -> bytes:
    """An object of any size."""
    return objects.read(row, most_bytes=1 << 30).data
