"""Where stores other than S3 are attacked: one canary at a time, by the credential of the environment."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from donjon.core.clock import iso
from donjon.core.errors import DonjonError, ObjectNotFound, PermissionMissing
from donjon.core.events import StopCheck
from donjon.drills.base import Answer, Attack, Leftover, NotTried, Report, Role, Trial, on_evidence, skipped
from donjon.drills.canaries import Canary, MakeCanary
from donjon.format import names
from donjon.format.evidence import EvidenceRow
from donjon.stores.base import LockEnforcement, ObjectStore

#: Long enough for all attacks, and short enough to be gone soon.
LOCK_S = 1_800
GARBAGE = b"Your files are encrypted."
#: Carries out a request, and says what came of it. Raises ``CredentialsRejected``, ``StoreUnavailable``.
Ask = Callable[[Callable[[], Any]], Answer]


@dataclass(frozen=True, slots=True)
class Target:
    """A canary in the store. ``locked_until`` is in Unix seconds, None for no lock."""

    canary: Canary
    version: str | None
    locked_until: int | None

    @property
    def name(self) -> str:
        """Its name in the vault."""
        return self.canary.name


@dataclass
class Ground:
    """A store, which shows all versions, and how its provider is asked for what the store has no word for.

    ``is_sure`` says that the provider is the one who documents that what is not empty is not deleted.
    """

    store: ObjectStore
    make: MakeCanary
    ask: Ask
    is_sure: bool = True
    intrusive: bool = False
    #: Whether the canary is hidden by now, so that the next attack needs another one.
    is_spent: bool = False
    _target: Target | None = None
    _ever: list[str] = field(default_factory=list)

    def target(self) -> Target:
        """A sound canary. Raises ``PermissionMissing`` if none may be put."""
        if self._target is None:
            canary, until = self.make(), None
            if self.store.lock_enforcement is not LockEnforcement.NONE:
                until = self.store.now() + LOCK_S
            version = self.store.put(canary.name, canary.data, retain_until=until).version
            self._target = Target(canary, version, until)
            self._ever.append(canary.name)
        return self._target

    def renew(self) -> None:
        """Let the next attack have a sound canary."""
        if self.is_spent:
            self._target, self.is_spent = None, False
        self.target()

    def locked(self) -> tuple[Target, int]:
        """The canary, and the end of its lock. Raises ``NotTried`` where there are no locks."""
        target = self.target()
        if target.locked_until is None:
            raise NotTried("nothing is locked here")
        return target, target.locked_until

    def adopt(self, name: str) -> None:
        """Note an object that the attacker put, so that it is cleaned up."""
        self._ever.append(name)

    def lost(self) -> tuple[str, ...] | None:
        """What became of the canary that is a loss, empty if nothing, None if it may not be seen."""
        target = self._target
        if target is None:
            return ()
        try:
            loss = self._loss(target)
        except PermissionMissing:
            return None
        if loss:
            self._target = None
            return (loss,)
        return ()

    def _loss(self, target: Target) -> str:
        shown = [
            info
            for info in self.store.list(target.name)
            if (info.name, info.version, info.delete_marker) == (target.name, target.version, False)
        ]
        if not shown:
            return "the canary is gone"
        try:
            if self.store.get(target.name, version=target.version) != target.canary.data:
                return "the canary has other bytes"
        except ObjectNotFound:
            return "the canary is gone"
        end = shown[0].retain_until
        if target.locked_until is None or (end is not None and end >= target.locked_until):
            return ""
        return f"the lock of the canary ends at {iso(end)}" if end else "the canary has no lock"

    def need_sure_ground(self, why: str) -> None:
        """Raises ``NotTried`` where nothing vouches for a place that is not empty staying; see S3."""
        if self.is_sure:
            return
        if not self.intrusive:
            raise NotTried(f"{why} by a server that is not the provider's own; --intrusive tries it")
        self.locked()
        if self.lost() != ():
            raise NotTried(f"{why}, and no lock was seen to hold that would keep it")

    def clean(self) -> list[Leftover]:
        """Take away what is not locked any more; what stays."""
        return [left for name in self._ever for left in self._clean(name)]

    def _clean(self, name: str) -> Iterator[Leftover]:
        try:
            infos = [info for info in self.store.list(name) if info.name == name]
        except DonjonError as error:
            yield Leftover(name, None, error.message)
            return
        for info in infos:
            try:
                self.store.delete_expired(name, version=info.version)
            except ObjectNotFound:
                continue
            except DonjonError as error:
                yield Leftover(name, info.retain_until, type(error).__name__)


Way = Callable[[Ground], Iterator[Answer]]
Attacks = Sequence[tuple[Attack, Way]]


def attack_store(
    ground: Ground,
    attacks: Attacks,
    role: Role,
    report: Report,
    *,
    accepted: frozenset[str],
    stop: StopCheck,
) -> Generator[EvidenceRow]:
    """Try everything, one attack after the other; each row is in the report, too.

    Raises ``CredentialsRejected``, ``PermissionMissing`` if no canary may be put, ``StoreUnavailable``.
    """
    try:
        for attack, way in attacks:
            stop()
            ground.renew()
            tried = on_evidence(attack) if ground.target().name.startswith(names.EVIDENCE) else attack
            try:
                row = Trial(tried, role, tuple(way(ground)), ground.lost()).row()
            except NotTried as error:
                row = skipped(tried, role, str(error))
            yield report.add(attack.name, row, accepted)
    finally:
        report.leftovers += ground.clean()


def by_store(ground: Ground, call: Callable[[], object]) -> Answer:
    """The answer of the store itself to something that the port has a word for."""
    try:
        call()
    except DonjonError as error:
        if type(error).__name__ in {"CredentialsRejected", "StoreUnavailable"}:
            raise
        return Answer(type(error).__name__)
    return Answer("accepted", accepted=True)
