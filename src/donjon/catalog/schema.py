"""Brings the tables of a catalog to what this version works with, by themselves and one process at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, inspect, text

from donjon.catalog.database import Catalog, open_database
from donjon.core.errors import UnsupportedVersion

if TYPE_CHECKING:
    from alembic.config import Config

#: All revisions, oldest first.
REVISIONS: Final = ("0001", "0002")
_MIGRATIONS: Final = Path(__file__).with_name("migrations")
_VERSIONS_OF: Final = "alembic_version"
#: The number of the lock under which one process at a time upgrades a database of PostgreSQL.
_ADVISORY_LOCK: Final = 0x646F6E6A6F6E  # "donjon"


def open_catalog(address: str | None, folder: Path) -> Catalog:
    """The catalog at an address, by default in ``folder``, upgraded if necessary.

    Raises what ``open_database`` and ``upgrade`` raise.
    """
    catalog = open_database(address, folder)
    upgrade(catalog)
    return catalog


def revision_of(catalog: Catalog) -> str | None:
    """The revision of the tables, None for an empty database. Raises ``UnsupportedVersion``."""
    return catalog.read(lambda connection: _known(catalog, _revision(connection)))


def upgrade(catalog: Catalog, to: str = REVISIONS[-1]) -> tuple[str | None, str]:
    """Carry out the migrations up to ``to`` that are missing, all or none; the revision before and after.

    Raises ``UnsupportedVersion`` for tables of a newer Donjon, which stay as they are.
    """
    before = revision_of(catalog)
    if before == REVISIONS[-1] or before == to:  # without loading Alembic
        return before, before
    catalog.write(lambda connection: _upgrade(catalog, connection, to))
    return before, to


def _upgrade(catalog: Catalog, connection: Connection, to: str) -> None:
    from alembic import command

    # SQLite: whoever writes is alone already.
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
    now = _known(catalog, _revision(connection))
    if now is not None and REVISIONS.index(now) >= REVISIONS.index(to):  # another process was first
        return
    configuration = alembic_configuration()
    configuration.attributes["connection"] = connection
    command.upgrade(configuration, to)


def alembic_configuration() -> Config:
    """Where Alembic finds the migrations."""
    from alembic.config import Config

    configuration = Config()
    configuration.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return configuration


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_VERSIONS_OF):
        return None
    found = connection.execute(text(f"SELECT version_num FROM {_VERSIONS_OF}")).scalar()  # noqa: S608
    return None if found is None else str(found)


def _known(catalog: Catalog, revision: str | None) -> str | None:
    if revision is not None and revision not in REVISIONS:
        msg = f"the catalog {catalog.place}: has tables of revision {revision}, unknown to this Donjon"
        raise UnsupportedVersion(
            msg, hint="A newer Donjon made it. Use that one, or another catalog with DONJON_CATALOG."
        )
    return revision
