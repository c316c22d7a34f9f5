"""Deletes what a plan and a fresh look at the vault agree on, version by version."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from donjon.core.errors import IntegrityFailure, ObjectLocked, ObjectNotFound
from donjon.core.events import Progress, StopCheck, never_stop
from donjon.custody.reaping import PACK, Doomed, Reaping
from donjon.format.manifest import PackKey
from donjon.repository.parallel import in_order
from donjon.repository.rebuild import read_trailer
from donjon.repository.vault import Vault

_THREADS = 16


@dataclass(slots=True)
class Reaped:
    """What was deleted, and what was kept although the plan names it, with the reason. Sizes in bytes."""

    deleted: int = 0
    deleted_bytes: int = 0
    kept: list[tuple[str, str]] = field(default_factory=list)


def reap(
    vault: Vault,
    fresh: Reaping,
    items: Iterable[Doomed],
    progress: Progress,
    stop: StopCheck = never_stop,
) -> Reaped:
    """Delete ``items``, which a plan and ``fresh`` agree on. Each pack's own trailer is asked once more.

    What is locked by now, or gone, is left alone. Raises what the store raises; run again, it goes on.
    """
    done = Reaped()

    def delete(item: Doomed) -> tuple[Doomed, str | None]:
        return item, _delete(vault, fresh, item, progress)

    for item, reason in in_order(_THREADS, delete, items, stop, "donjon-reap"):
        if reason is None:
            done.deleted += 1
            done.deleted_bytes += item.size_bytes
        else:
            done.kept.append((item.name, reason))
    return done


def _delete(vault: Vault, fresh: Reaping, item: Doomed, progress: Progress) -> str | None:
    """None if it is gone now, else why it was kept."""
    try:
        if item.why == PACK and (reason := _why_needed(vault, fresh, item.name)):
            return reason
        vault.store.delete_expired(item.name, version=item.version)
    except ObjectLocked as error:
        return error.message
    except ObjectNotFound:  # a run before this one deleted it, and died
        return None
    except IntegrityFailure as error:
        return f"does not say whose it is: {error.message}"
    finally:
        progress.advance(items=1, size_bytes=item.size_bytes, current=item.name)
    return None


def _why_needed(vault: Vault, fresh: Reaping, name: str) -> str | None:
    """Why a pack must stay, by its own signed trailer: the index could have been told otherwise."""
    trailer = read_trailer(vault, name)
    key: PackKey = (trailer.writer, trailer.session, trailer.ordinal)
    if key in fresh.needed:
        return "its trailer says that it is a pack which points need"
    if trailer.writer in fresh.unsettled:
        return "manifests of its writer are missing or damaged"
    return None
