"""The keys of writers, one after the other. See ``docs/format.md``, "Keys that succeed each other".

The keyring certifies the first key of a writer. Each key names the next by a create-only object under the
next number, or approvers do, so there is one chain. Nothing is read for a writer until a signature does not
fit, or until it matters when a key was succeeded; so a vault without successions costs readers one listing,
and writers one request.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from donjon.codec.digest import digest
from donjon.core.errors import IntegrityFailure, ObjectNotFound, PermissionMissing, UnsupportedVersion
from donjon.format import names
from donjon.format.manifest import Manifest
from donjon.format.objects import ObjectKind
from donjon.format.succession import MAX_SUCCESSIONS, AllowedSuccession, check_signer, parse_succession
from donjon.repository.approvers import ApproverSet, read_writer_key
from donjon.repository.fetch import fetch_object
from donjon.stores.base import ObjectStore
from donjon.stores.first_versions import first_of_each

#: What the first succession names as the one before.
NO_SUCCESSION = bytes(32)


@dataclass(frozen=True, slots=True)
class Successor:
    """A key that took over. ``since`` is when the store received its succession, in Unix seconds; None if it
    does not tell.

    ``last`` and ``last_point`` are sequence and id of the last point that the keys before it may have
    signed, if approvers named it, and ``request`` is the digest of what they signed; else ``last`` is None.
    """

    number: int
    public: bytes
    digest: bytes
    created_at: int
    since: int | None
    last: int | None = None
    last_point: bytes = b""
    request: bytes = b""


class Successions:
    """What is known of the chains of all writers of a vault. Safe to share between threads."""

    def __init__(
        self, vault_id: bytes, longest_backup_s: int, approver_sets: Sequence[ApproverSet] = ()
    ) -> None:
        """``approver_sets`` are all that there ever were, and may grow."""
        self._vault_id = vault_id
        self._approver_sets = approver_sets
        self._longest_backup_s = longest_backup_s
        self._chains: dict[bytes, list[Successor]] = {}
        self._signed_by: dict[tuple[bytes, int], int] = {}
        self._lock = threading.RLock()

    def of(self, writer: bytes) -> tuple[Successor, ...]:
        """The successors of a writer's first key that are known, in their order."""
        return tuple(self._chains.get(writer, ()))

    def verify(self, store: ObjectStore, writer: bytes, first: bytes, check: Callable[[bytes], None]) -> int:
        """The number of the key of a writer with which ``check`` is content.

        ``first`` is the key that the keyring certifies; ``check`` raises ``IntegrityFailure`` for a wrong
        one, and so does this if it is content with none. Successions that are not known yet are looked for
        first.
        """
        known = self._keys(writer, first)
        for number in reversed(range(len(known))):
            try:
                check(known[number])
            except IntegrityFailure:
                continue
            return number
        self.read_on(store, writer, first)
        for number, key in list(enumerate(self._keys(writer, first)))[len(known) :]:
            try:
                check(key)
            except IntegrityFailure:
                continue
            return number
        check(known[-1])
        raise AssertionError

    def read_on(self, store: ObjectStore, writer: bytes, first: bytes) -> None:
        """Read the successions of a writer that are not known yet. What is damaged ends the chain."""
        with self._lock:
            while len(self.of(writer)) < MAX_SUCCESSIONS:
                name = names.succession(writer, len(self.of(writer)) + 1)
                try:
                    data = fetch_object(store, name, ObjectKind.ALLOWED_SUCCESSION)  # the larger form
                    self.apply(data, name, first, stored_at(store, name), store)
                except (ObjectNotFound, PermissionMissing, IntegrityFailure, UnsupportedVersion):
                    return

    def read_all(self, store: ObjectStore, firsts: dict[bytes, bytes]) -> None:
        """Read those of all writers: what a listing shows. ``firsts`` are the certified keys by writer."""
        listed = {info.name.split("/")[1] for info in first_of_each(store.list(names.SUCCESSIONS))}
        for writer, first in firsts.items():
            if writer.hex() in listed:
                self.read_on(store, writer, first)

    def apply(self, data: bytes, name: str, first: bytes, since: int | None, store: ObjectStore) -> Successor:
        """Check one succession, and take it in if it is the next one. Raises ``IntegrityFailure``."""
        succession = parse_succession(data, name)
        writer, number = succession.writer, succession.number
        if name != names.succession(writer, number):
            msg = f"{name}: holds another succession"
            raise IntegrityFailure(msg, hint="Objects were swapped. Do not trust this store.")
        with self._lock:
            chain = self._chains.get(writer, [])
            if number > len(chain) + 1:
                msg = f"{name}: does not follow any that is known: one before is hidden or damaged"
                raise IntegrityFailure(msg, hint="Do not trust this store.")
            keys = self._keys(writer, first)
            before = chain[number - 2].digest if number > 1 else NO_SUCCESSION
            check_signer(succession, data, self._vault_id, keys[number - 1], name)
            if succession.previous != before or succession.public in keys[:number]:
                msg = f"{name}: does not follow the succession before it"
                raise IntegrityFailure(msg, hint="It was swapped or replayed. Do not trust this store.")
            made = Successor(number, succession.public, digest(data), succession.created_at, since)
            if isinstance(succession, AllowedSuccession):
                made = self._allowed(succession, made, name, store)
            if number == len(chain) + 1:
                self._chains.setdefault(writer, []).append(made)
            elif chain[number - 1].digest != made.digest:
                msg = f"{name}: is another than the one seen before"
                raise IntegrityFailure(msg, hint="The store shows two histories. Do not trust it.")
            return made

    def _allowed(
        self, succession: AllowedSuccession, made: Successor, name: str, store: ObjectStore
    ) -> Successor:
        """The key with what approvers said of those before it. Raises ``IntegrityFailure``."""
        sets = self._approver_sets
        allowed, request, place = read_writer_key(succession, sets, self._vault_id, name)
        if place + 1 < len(sets) and made.since is not None:
            # Both times are of the same store, and a copy gets such successions before the keyring.
            replaced_at = stored_at(store, names.keyring(sets[place + 1].number))
            if replaced_at is not None and made.since > replaced_at:
                msg = f"{name}: was put after those who allowed it had been replaced, perhaps by a thief"
                raise IntegrityFailure(msg, hint="It does not count. Find out who may put into the vault.")
        return replace(made, last=allowed.last, last_point=allowed.last_point, request=request)

    def follows(self, writer: bytes, number: int, previous: bytes) -> bool:
        """Whether a succession with these could be the next one."""
        chain = self.of(writer)
        return number == len(chain) + 1 and previous == (chain[-1].digest if chain else NO_SUCCESSION)

    # -- points ----------------------------------------------------------------------------------

    def signed(self, manifest: Manifest, number: int) -> None:
        """Remember which key signed a manifest."""
        if number:
            self._signed_by[manifest.writer, manifest.sequence] = number

    def key_of(self, manifest: Manifest) -> int:
        """The number of the key that signed a manifest that was read."""
        return self._signed_by.get((manifest.writer, manifest.sequence), 0)

    def is_late(self, manifest: Manifest, time: int) -> bool:
        """Whether a point came when its key had been succeeded for longer than a backup can take.

        ``time`` is that of the point by the store's clock. A session that was under way goes on with the key
        that it began with, for the longest backup at most.
        """
        return self.is_over(manifest.writer, self.key_of(manifest), time)

    def is_over(self, writer: bytes, number: int, time: int) -> bool:
        """Whether key ``number`` of a writer counted no more at ``time``, by the store's clock."""
        chain = self._chains.get(writer, ())
        if number >= len(chain):
            return False
        following = chain[number]
        if following.last is not None or following.since is None:
            return False  # approvers say what counts, not time
        return time > following.since + self._longest_backup_s

    def is_cut_off(self, manifest: Manifest, point_id: bytes) -> bool:
        """Whether approvers named a key after the one that signed a point, and did not count the point.

        ``point_id`` is the digest of the manifest object.
        """
        return any(
            manifest.sequence > one.last or (manifest.sequence == one.last and point_id != one.last_point)
            for one in self._chains.get(manifest.writer, ())[self.key_of(manifest) :]
            if one.last is not None
        )

    def last_counting(self, writer: bytes, number: int) -> int | None:
        """The sequence of the last point that approvers left to key ``number`` of a writer; None if they
        said nothing of it.
        """
        found = [one.last for one in self._chains.get(writer, ())[number:] if one.last is not None]
        return min(found, default=None)

    def _keys(self, writer: bytes, first: bytes) -> list[bytes]:
        return [first, *(successor.public for successor in self.of(writer))]


def stored_at(store: ObjectStore, name: str) -> int | None:
    """When the store received an object, in Unix seconds; None if it does not tell this credential."""
    try:
        return store.head(name).stored_at
    except (PermissionMissing, ObjectNotFound):
        return None
