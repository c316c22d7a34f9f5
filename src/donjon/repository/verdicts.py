"""Which points of a vault are suspect, as auditors and custodians signed; ``docs/format.md``, section 25."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from donjon.core.errors import IntegrityFailure, ObjectNotFound
from donjon.core.events import never_stop
from donjon.format import names
from donjon.format.verdict import KIND, Said, read_row
from donjon.repository.evidence import SignedEvidence, Standing, is_trusted, read_evidence
from donjon.repository.parallel import in_order
from donjon.repository.vault import Vault
from donjon.stores.base import ObjectInfo
from donjon.stores.first_versions import first_of_each

_THREADS: Final = 16


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark that makes a point suspect. ``reason`` is sealed, or empty."""

    point_id: bytes
    reason: bytes
    signed: SignedEvidence

    @property
    def digest(self) -> bytes:
        """That of the evidence, by which lifts and approvals name it; 32 bytes."""
        return self.signed.digest


#: The marks of suspect points by their ids, those of a point by their digests.
Marks = dict[bytes, tuple[Mark, ...]]


def read_verdicts(
    vault: Vault,
    damaged: list[IntegrityFailure],
    kept: Mapping[bytes, SignedEvidence],
    others: set[str] | None = None,
    at_hand: Iterable[SignedEvidence] = (),
) -> tuple[list[SignedEvidence], list[SignedEvidence]]:
    """All verdicts that the store shows, and those of ``kept``, by their digests, that it does not show.

    What is wrong with any evidence is added to ``damaged``, so that nobody keeps others from a point by
    planting rubbish. ``others`` are names of evidence that is known to be no verdict, which is not read, and
    gets those that are read now; what is ``at_hand`` was read from this store just now, and is not read
    again. Whether verdicts count is for ``standing_marks`` to say.
    """
    vault.keyring.read_on(vault.store)
    others = set() if others is None else others
    missing = {names.evidence(key): one for key, one in kept.items()}
    known = {names.evidence(one.digest): one for one in at_hand} | missing
    shown: list[SignedEvidence] = []

    def read(info: ObjectInfo) -> SignedEvidence | IntegrityFailure | None:
        try:
            return known.get(info.name) or read_evidence(vault, info)
        except ObjectNotFound:  # its lock ended, and somebody removed it since it was listed
            return None
        except IntegrityFailure as error:
            return error

    listed = (info for info in first_of_each(vault.store.list(names.EVIDENCE)) if info.name not in others)
    for found in in_order(_THREADS, read, listed, never_stop, "donjon-verdicts"):
        if isinstance(found, IntegrityFailure):
            damaged.append(found)
        elif found is not None and found.evidence.kind == KIND:
            shown.append(found)
            missing.pop(names.evidence(found.digest), None)
        elif found is not None:
            others.add(names.evidence(found.digest))
    return shown, list(missing.values())


def standing_marks(vault: Vault, verdicts: Iterable[SignedEvidence]) -> Marks:
    """The marks that count and that no lift that counts names. Their order and times do not matter."""
    said = [
        (signed, one)
        for signed in verdicts
        if signed.standing is Standing.COUNTS and is_trusted(vault, signed.evidence.signer)
        for one in statements(signed)
    ]
    lifted = {(one.point_id, one.lifts) for _, one in said}
    marks: dict[bytes, dict[bytes, Mark]] = {}
    for signed, one in said:
        if one.lifts is None and (one.point_id, signed.digest) not in lifted:
            marks.setdefault(one.point_id, {})[signed.digest] = Mark(one.point_id, one.reason, signed)
    return {point_id: tuple(found[key] for key in sorted(found)) for point_id, found in marks.items()}


def statements(signed: SignedEvidence) -> list[Said]:
    """What a verdict says of points, row by row; nothing for other evidence."""
    if signed.evidence.kind != KIND:
        return []
    return [one for row in signed.evidence.rows if (one := read_row(row)) is not None]
