"""A server of PostgreSQL: its base backup, or its dumps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from donjon.app.kinds.base import Prepared, Surroundings
from donjon.plan.workloads import Postgres
from donjon.sources import postgres as server


@contextmanager
def prepare(postgres: Postgres, surroundings: Surroundings) -> Iterator[Prepared]:
    """The server, which is read while it works. Raises ``SourceFailed`` if it cannot be read as planned."""
    if postgres.mode == "base":
        readable = server.base_backup(
            postgres.service, timeout_s=postgres.timeout, wants_wal=postgres.wal, stop=surroundings.stop
        )
    else:
        readable = server.dumps(
            postgres.service, postgres.databases, timeout_s=postgres.timeout, stop=surroundings.stop
        )
    with surroundings.quiesce(), readable as found:
        yield Prepared(found.source, found.source.paths, warnings=found.warnings)
