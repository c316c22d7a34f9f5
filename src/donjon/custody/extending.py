"""Locks anew what is due, and tells so in epoch objects."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from donjon.core.errors import ObjectLocked, ObjectNotFound
from donjon.core.events import Progress, StopCheck, never_stop
from donjon.custody.extension import Due, Extension, due_objects
from donjon.custody.inventory import Inventory
from donjon.custody.standing import Standing
from donjon.format import names
from donjon.format.epoch import MAX_NAMES
from donjon.repository.credential import CustodianCredential
from donjon.repository.epochs import put_epoch
from donjon.repository.packbits import PackBits
from donjon.repository.parallel import in_order
from donjon.repository.vault import Vault

_THREADS = 16
#: What a run that dies has to do again at most.
_TOLD_AFTER = 32_768


@dataclass(slots=True)
class Extended:
    """What was done. ``debt`` counts the live points that are still protected for less than promised.

    ``keeps_times`` is False if the store gave an object that was locked anew another time.
    """

    until: int
    objects: int = 0
    packs: int = 0
    points: int = 0
    epochs: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    debt: int = 0
    keeps_times: bool = True


class Extender:
    """Carries out one plan."""

    def __init__(
        self,
        vault: Vault,
        credential: CustodianCredential,
        inventory: Inventory,
        plan: Extension,
        progress: Progress,
        *,
        look_first: bool = False,
        stop: StopCheck = never_stop,
    ) -> None:
        """With ``look_first`` each object's lock is asked for: a look costs less than a change."""
        self._vault = vault
        self._credential = credential
        self._inventory = inventory
        self._plan = plan
        self._progress = progress
        self._look_first = look_first
        self._stop = stop
        self._told_until = plan.until
        self._done = Extended(plan.until)
        self._packs = PackBits()
        self._names: set[str] = set()
        self._failed = PackBits()
        self._failed_sessions: set[tuple[bytes, int]] = set()
        self._untold = 0

    def run(self, live: Iterable[Standing]) -> Extended:
        """Lock what is due: what points hang on, packs, and last the manifests of points that are whole.

        Whatever was locked is told in an epoch object, also if the run ends with an error; what could not
        be locked because it is missing is in ``failed``. Raises what the store raises.
        """
        plan = self._plan
        self._progress.total(items=plan.requests)
        try:
            self._lock(due_objects(self._inventory, plan))
            whole = [standing for standing in plan.manifests if not self._is_broken(standing)]
            self._lock(self._manifest_item(standing) for standing in whole)
        finally:
            self._tell()
        self._done.points = len(whole)
        self._done.debt = sum(self._is_broken(standing) for standing in live if standing.is_live)
        self._done.keeps_times = self._keeps_times(whole)
        return self._done

    def _manifest_item(self, standing: Standing) -> Due:
        info = self._inventory.others.get(standing.point.name)
        return Due(standing.point.name, info.version if info else None)

    def _lock(self, items: Iterable[Due]) -> None:
        for item, result in in_order(_THREADS, self._lock_one, items, self._stop, "donjon-extend"):
            self._note(item, result)
            if self._untold >= _TOLD_AFTER or len(self._names) >= MAX_NAMES:
                self._tell()

    def _lock_one(self, item: Due) -> tuple[Due, int | ObjectNotFound]:
        """Until when the object is locked now at least, or that it is missing."""
        try:
            return item, self._locked(item)
        except ObjectLocked:  # for longer than we want
            return item, self._plan.until
        except ObjectNotFound as error:
            return item, error
        finally:
            self._progress.advance(items=1, current=item.name)

    def _locked(self, item: Due) -> int:
        if self._look_first:
            end = self._vault.store.head(item.name, version=item.version).retain_until
            if end is not None and end >= self._plan.due_before:
                return min(end, self._plan.until)
        self._vault.store.extend(item.name, self._plan.until, version=item.version)
        return self._plan.until

    def _note(self, item: Due, result: int | ObjectNotFound) -> None:
        keys = () if item.pack is None else self._inventory.packs.keys(item.pack)
        if isinstance(result, ObjectNotFound):
            self._done.failed.append(item.name)
            for key in keys:
                self._failed.add(key)
            if item.name.startswith(names.SESSIONS):
                _, writer, number = item.name.split("/")
                self._failed_sessions.add((bytes.fromhex(writer), int(number)))
            return
        self._told_until = min(self._told_until, result)
        self._done.objects += 1
        self._untold += 1
        if item.pack is None:
            self._names.add(item.name)
            return
        self._done.packs += 1
        for key in keys:
            self._packs.add(key)

    def _keeps_times(self, locked: list[Standing]) -> bool:
        """Whether a manifest still has the time that it was listed with: not every server of S3 leaves it."""
        for listed in (self._inventory.others.get(standing.point.name) for standing in locked[:1]):
            if listed is not None:
                now = self._vault.store.head(listed.name, version=listed.version)
                return now.stored_at == listed.stored_at
        return True

    def _tell(self) -> None:
        """Put an epoch object for what was locked since the last one."""
        if self._untold:
            self._done.epochs.append(
                put_epoch(self._vault, self._credential, self._told_until, self._packs, self._names)
            )
        self._told_until = self._plan.until
        self._packs, self._names, self._untold = PackBits(), set(), 0

    def _is_broken(self, standing: Standing) -> bool:
        """Whether something that the point needs could not be locked."""
        plan, manifest = self._plan, standing.point.manifest
        lost = plan.absent_sessions | self._failed_sessions
        return (manifest.writer, manifest.session) in lost or any(
            (use.writer, use.session) in lost or self._failed.meets(use) or plan.absent.meets(use)
            for use in manifest.uses
        )
