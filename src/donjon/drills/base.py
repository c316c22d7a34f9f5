"""What is tried, by whom, what should come of it, and what did. Pure: adapters ask, this judges."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from donjon.format.evidence import EvidenceRow, Outcome, evidence_row


class Role(enum.StrEnum):
    """Whose credential attacks. The first five are those of design.md, section 1."""

    WRITER = "writer"
    READER = "reader"
    CUSTODIAN = "custodian"
    REAPER = "reaper"
    AUDITOR = "auditor"
    #: Who administers the account that the vault is in.
    ADMINISTRATOR = "administrator"
    #: Anybody else, such as an administrator of production.
    OUTSIDER = "outsider"


NOBODY: frozenset[Role] = frozenset()
ADMINISTRATOR: frozenset[Role] = frozenset({Role.ADMINISTRATOR})
#: Who reads ciphertext and lists.
READING: frozenset[Role] = frozenset(
    {Role.READER, Role.CUSTODIAN, Role.REAPER, Role.AUDITOR, Role.ADMINISTRATOR}
)


@dataclass(frozen=True, slots=True)
class Attack:
    """One kind of attack. It must be refused to all but those in ``allowed``, whose work it is, and those in
    ``harmless``, to whom it may be given because nothing is lost by it.

    ``intrusive`` ones change a setting of the bucket for a moment.
    """

    name: str
    what: str
    allowed: frozenset[Role] = NOBODY
    harmless: frozenset[Role] = NOBODY
    intrusive: bool = False

    def expected(self, role: Role) -> str:
        """What should come of it, for people."""
        if role in self.allowed:
            return "may be allowed"
        return "nothing lost" if role in self.harmless else "refused"


def on_evidence(attack: Attack) -> Attack:
    """The attack where canaries are evidence, which an auditor may put, locked from its first moment.

    S3 has one permission for that and for extending a lock.
    """
    if attack.name in {"put", "extend"}:
        return replace(attack, allowed=attack.allowed | {Role.AUDITOR})
    if attack.name in {"overwrite", "ransom-copy"}:
        return replace(attack, harmless=attack.harmless | {Role.AUDITOR})
    return attack


@dataclass(frozen=True, slots=True)
class Answer:
    """What the provider said to one request, in its own words. ``is_known`` is False if it has no such
    request or fails at it, so that the answer says nothing.
    """

    text: str
    accepted: bool = False
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class Trial:
    """An attack that was tried. ``lost`` is what it did to the canaries, None if nobody here can see them."""

    attack: Attack
    role: Role
    answers: tuple[Answer, ...]
    lost: tuple[str, ...] | None = ()

    def row(self) -> EvidenceRow:
        """What is told of it."""
        seen, outcome = self._judged()
        expected = self.attack.expected(self.role)
        return evidence_row(self.attack.what, expected, seen, outcome, answer=_summary(self.answers))

    def _judged(self) -> tuple[str, Outcome]:
        if self.lost:
            return f"went through: {self.lost[0]}", Outcome.FAILED
        if any(answer.accepted for answer in self.answers):
            return self._accepted()
        if any(answer.is_known for answer in self.answers):
            return "refused", Outcome.PASSED
        return "no answer that says anything", Outcome.SKIPPED

    def _accepted(self) -> tuple[str, Outcome]:
        """What it means that the provider did as it was told, and no loss was seen."""
        if self.role in self.attack.allowed:
            return "allowed", Outcome.PASSED
        if self.role not in self.attack.harmless:
            return "went through", Outcome.FAILED
        if self.lost is None:
            return "accepted, and nobody here sees the loss", Outcome.SKIPPED
        return "accepted, nothing lost", Outcome.PASSED


def _summary(answers: Sequence[Answer]) -> str:
    """Each answer once, with how often it came."""
    counted = Counter(answer.text for answer in answers)
    return ", ".join(f"{times} x {text}" if times > 1 else text for text, times in counted.items())


def skipped(attack: Attack, role: Role, why: str) -> EvidenceRow:
    """The row of an attack that was not tried."""
    return evidence_row(attack.what, attack.expected(role), "not tried", Outcome.SKIPPED, answer=why)


def known(row: EvidenceRow) -> EvidenceRow:
    """A row that failed, as somebody knows and accepts that it does."""
    return evidence_row(row.tried, row.expected, f"known: {row.seen}", Outcome.SKIPPED, answer=row.answer)


class NotTried(Exception):
    """Why an attack was not tried."""


@dataclass(frozen=True, slots=True)
class Leftover:
    """An object of the drill that stays. ``locked_until`` is in Unix seconds, None if it could be removed."""

    name: str
    locked_until: int | None
    why: str


@dataclass(slots=True)
class Report:
    """What a drill saw. ``failed`` are the names of the attacks that went through, and ``advice`` says what
    can be done about them.
    """

    rows: list[EvidenceRow] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    leftovers: list[Leftover] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    def add(self, attack: str, row: EvidenceRow, accepted: frozenset[str] = frozenset()) -> EvidenceRow:
        """Note a row; one that failed counts unless ``accepted`` has the name of its attack."""
        if row.outcome is Outcome.FAILED and attack in accepted:
            row = known(row)
        elif row.outcome is Outcome.FAILED:
            self.failed.append(attack)
        self.rows.append(row)
        return row
