"""Attacks on the keys of a vault that are in key services: one table for each service, gone through here."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from donjon.core.events import StopCheck
from donjon.drills.base import Answer, Attack, NotTried, Report, Role, Trial, skipped
from donjon.format.evidence import EvidenceRow

INTRUSIVE = "the key would be no use for a moment; --intrusive tries it"
#: Whose work it is to open with a key.
OPENING = frozenset({Role.READER, Role.ADMINISTRATOR})

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Service(Generic[K]):
    """A key service: its attacks, and ``loss``, which says what is wrong with a key, empty if nothing.

    ``loss`` raises ``NotTried`` if the key may not be looked at.
    """

    attacks: Sequence[tuple[Attack, Callable[[K], Iterator[Answer]]]]
    loss: Callable[[K], str]


def attack_service(
    service: Service[K],
    keys: Sequence[K],
    role: Role,
    report: Report,
    *,
    intrusive: bool,
    accepted: frozenset[str],
    stop: StopCheck,
) -> Generator[EvidenceRow]:
    """Try everything on every key; each row is in the report, too. Raises what the attacks raise."""
    for key in keys:
        for attack, way in service.attacks:
            stop()
            if attack.intrusive and not intrusive:
                row = skipped(attack, role, INTRUSIVE)
            else:
                row = _tried(service, key, role, attack, way)
            yield report.add(attack.name, row, accepted)


def _tried(
    service: Service[K], key: K, role: Role, attack: Attack, way: Callable[[K], Iterator[Answer]]
) -> EvidenceRow:
    try:
        answers = tuple(way(key))
    except NotTried as error:
        return skipped(attack, role, str(error))
    lost: tuple[str, ...] = ()
    if attack.intrusive and (loss := service.loss(key)):
        lost = (f"{loss}, and could not be put back",)
    return Trial(attack, role, answers, lost).row()
