"""The attack drill on a vault in a bucket of S3."""

from __future__ import annotations

from collections.abc import Generator

from donjon.core.events import StopCheck
from donjon.drills.base import Attack, NotTried, Report, Role, Trial, on_evidence, skipped
from donjon.drills.s3_field import Field
from donjon.drills.s3_objects import OBJECT_ATTACKS, Way
from donjon.drills.s3_settings import SETTING_ATTACKS
from donjon.format import names
from donjon.format.evidence import EvidenceRow

ATTACKS: tuple[tuple[Attack, Way], ...] = (*OBJECT_ATTACKS, *SETTING_ATTACKS)
INTRUSIVE = "it would change a setting for a moment; --intrusive tries it"


def attack_bucket(
    place: Field,
    role: Role,
    report: Report,
    *,
    accepted: frozenset[str],
    stop: StopCheck,
) -> Generator[EvidenceRow]:
    """Try everything, one attack after the other; each row is in the report, too.

    Whatever ends it, the settings are as before, and the canaries are cleaned up as far as that goes.
    Raises ``CredentialsRejected``, ``PermissionMissing``, ``StoreUnavailable``.
    """
    try:
        place.prepare()
        for attack, way in ATTACKS:
            stop()
            yield report.add(attack.name, _tried(place, role, attack, way), accepted)
    finally:
        report.leftovers += place.clean()


def _tried(place: Field, role: Role, attack: Attack, way: Way) -> EvidenceRow:
    if attack.intrusive and not place.intrusive:
        return skipped(attack, role, INTRUSIVE)
    if place.canaries()[0].name.startswith(names.EVIDENCE):
        attack = on_evidence(attack)
    try:
        answers = tuple(way(place))
    except NotTried as error:
        return skipped(attack, role, str(error))
    return Trial(attack, role, answers, place.lost()).row()
