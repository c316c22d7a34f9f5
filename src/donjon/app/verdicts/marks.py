"""Which points of a vault are suspect, for all that shows or uses points."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from donjon.app.evidence import with_signer
from donjon.app.verdicts.seen import SeenVerdicts
from donjon.app.wiring import Workspace
from donjon.core.errors import IntegrityFailure, ObjectNotFound
from donjon.format import names
from donjon.repository.evidence import SignedEvidence, read_evidence
from donjon.repository.vault import Vault
from donjon.repository.verdicts import Marks, read_verdicts, standing_marks, statements


@dataclass(frozen=True, slots=True)
class ShownMark:
    """A mark for people. ``signed_at`` is in Unix seconds, 0 if the store does not show it.

    ``name`` is that of the signer as far as a key reveals it, ``reason`` None if it is hidden from us.
    """

    digest: bytes
    signed_at: int = 0
    signer: bytes = b""
    role: str = ""
    name: str = ""
    reason: str | None = None

    @property
    def who(self) -> str:
        """The signer in a few words."""
        short = self.signer.hex()[:12]
        return f"the {self.role} {f'{self.name} ({short})' if self.name else short}" if self.role else ""


@dataclass(slots=True)
class Verdicts:
    """All verdicts that this host knows of a vault. ``hidden`` are those that the store does not show."""

    vault: Vault
    all: list[SignedEvidence] = field(default_factory=list)
    hidden: list[SignedEvidence] = field(default_factory=list)
    damaged: list[IntegrityFailure] = field(default_factory=list)
    marks: Marks = field(default_factory=dict)

    def of(self, point_id: bytes) -> tuple[ShownMark, ...]:
        """The marks that make a point suspect, by their times; empty if it is not."""
        marks = sorted(self.marks.get(point_id, ()), key=lambda mark: mark.signed.signed_at)
        return tuple(shown_mark(self.vault, mark.signed, mark.reason) for mark in marks)


def look_up(workspace: Workspace, vault: Vault, at_hand: Iterable[SignedEvidence] = ()) -> Verdicts:
    """The verdicts that the store shows, and those that this host saw before, in whichever copy.

    Evidence that the caller has read just now may be given ``at_hand``, so that it is read once.

    Raises what stores raise: who cannot tell which points are suspect cannot tell that one is not.
    """
    seen = SeenVerdicts(workspace.home.folder, vault)
    found = Verdicts(vault)
    known = seen.read_others()
    others = set(known)
    shown, found.hidden = read_verdicts(vault, found.damaged, seen.read(), others, at_hand)
    seen.keep(shown)
    if others != known:
        seen.keep_others(others)
    found.all = [*shown, *found.hidden]
    found.marks = standing_marks(vault, found.all)
    return found


def warn_of_doubts(workspace: Workspace, verdicts: Verdicts) -> None:
    """Tell of evidence that is damaged, as it could be a verdict, and of verdicts that are not shown."""
    if verdicts.damaged:
        count, first = len(verdicts.damaged), verdicts.damaged[0].message
        workspace.tell(
            f"warning: {count} of all evidence is damaged, and may tell of suspect points: {first}"
        )
    for one in verdicts.hidden:
        workspace.tell(
            f"warning: {one.where}: {verdicts.vault.store.url} does not show this verdict, "
            "which this host saw; it counts all the same"
        )


def mark_by_digest(vault: Vault, point_id: bytes, digest: bytes) -> ShownMark:
    """A mark that a request names, asked for by its name; without a time if it is not there or is none."""
    try:
        signed = read_evidence(vault, vault.store.head(names.evidence(digest)))
    except (IntegrityFailure, ObjectNotFound):
        return ShownMark(digest)
    reasons = (one.reason for one in statements(signed) if one.point_id == point_id and one.lifts is None)
    reason = next(reasons, None)
    return ShownMark(digest) if reason is None else shown_mark(vault, signed, reason)


def shown_mark(vault: Vault, signed: SignedEvidence, reason: bytes) -> ShownMark:
    """A mark for people."""
    by = with_signer(vault, signed)
    return ShownMark(
        signed.digest,
        signed.signed_at,
        signed.evidence.signer,
        by.role,
        by.name,
        _open(vault, reason, signed.where),
    )


def _open(vault: Vault, reason: bytes, where: str) -> str | None:
    if not reason:
        return ""
    if not vault.has_secret:
        return None
    try:
        return vault.secret.read_label(reason, where)
    except IntegrityFailure:  # an auditor without the vault's secret signed what he likes; the mark counts
        return None
