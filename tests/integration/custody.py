"""A vault in memory whose custodian looks after the locks."""

from __future__ import annotations

import random
from collections.abc import Sequence

from donjon.core.events import Silent
from donjon.custody.extending import Extended, Extender
from donjon.custody.extension import Extension, default_epoch_s, plan_extension
from donjon.custody.inventory import Inventory, take_inventory
from donjon.custody.reaper import Reaped, reap
from donjon.custody.reaping import Reaping, plan_reaping
from donjon.custody.standing import Standing, find_standings
from donjon.plan.retention import Policy
from donjon.repository.cache import Cache
from donjon.repository.points import list_points
from donjon.stores.base import ObjectStore
from donjon.stores.observe import ObservingStore
from tests.integration.engine import DAY
from tests.integration.witnesses import Watched

KEEP_ALL = Policy()


class Custody:
    """What a custodian does, each time on a machine that remembers nothing unless told.

    ``suspect`` are the ids of points that somebody marked.
    """

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.place = watched.place
        self.cache = self.fresh_cache()
        self.suspect: set[bytes] = set()

    def fresh_cache(self) -> Cache:
        return Cache(self.place.folder / f"custodian{random.getrandbits(64):x}")

    def look(
        self, policy: Policy = KEEP_ALL, store: ObjectStore | None = None, deleted: Sequence[bytes] = ()
    ) -> tuple[Inventory, list[Standing]]:
        vault = self.place.open(store)
        points = list_points(vault, [])
        inventory = take_inventory(vault, self.cache, Silent())
        standings = find_standings(
            points, inventory, vault.keyring, policy, deleted=deleted, suspect=self.suspect
        )
        return inventory, standings

    def plan(self, policy: Policy = KEEP_ALL, store: ObjectStore | None = None) -> Extension:
        inventory, standings = self.look(policy, store)
        return plan_extension(inventory, standings, default_epoch_s(inventory.lock_s))

    def extend(
        self, policy: Policy = KEEP_ALL, store: ObjectStore | None = None, deleted: Sequence[bytes] = ()
    ) -> Extended:
        vault = self.place.open(store)
        inventory, standings = self.look(policy, store, deleted)
        plan = plan_extension(inventory, standings, default_epoch_s(inventory.lock_s))
        return Extender(vault, self.watched.custodians[0], inventory, plan, Silent()).run(standings)

    def extend_counting(self, policy: Policy = KEEP_ALL) -> tuple[Extended, dict[str, int]]:
        """An extension, and how often each object was asked to be locked anew."""
        asked: dict[str, int] = {}

        class Counting(ObservingStore):
            def extend(self, name: str, retain_until: int, *, version: str | None = None) -> None:
                asked[name] = asked.get(name, 0) + 1
                super().extend(name, retain_until, version=version)

        return self.extend(policy, Counting(self.place.store)), asked

    def reaping(self, policy: Policy = KEEP_ALL, deleted: Sequence[bytes] = ()) -> Reaping:
        return plan_reaping(*self.look(policy, deleted=deleted))

    def reap(self, policy: Policy = KEEP_ALL, store: ObjectStore | None = None) -> Reaped:
        """Plan and apply at once."""
        inventory, standings = self.look(policy, store)
        fresh = plan_reaping(inventory, standings)
        return reap(self.place.open(store), fresh, fresh.doomed, Silent())

    def wait(self, days: float) -> None:
        self.place.clock.advance(int(days * DAY))
