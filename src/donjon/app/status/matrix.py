"""The matrix of a plan: the verdict on each workload, and that as signed evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from donjon.app.config import Settings
from donjon.app.evidence import Recorded, Recorder
from donjon.app.evidence_rows import STATUS
from donjon.app.plans.files import read_plan
from donjon.app.status.facts import Survey, gather
from donjon.app.wiring import Workspace
from donjon.core.clock import Clock
from donjon.core.errors import KeyNotAvailable, UsageError
from donjon.core.events import Progress
from donjon.core.units import format_duration
from donjon.format.evidence import EvidenceRow, Outcome, evidence_row
from donjon.plan.copies import CopyKind
from donjon.plan.model import Plan
from donjon.plan.placement import Cell, Rule, State, Verdict, judge

#: One piece of evidence has at most 2,000 rows; nine are for one workload.
_WORKLOADS_A_PIECE: Final = 200
#: More ids of points do not fit into a row.
_IDS_A_ROW: Final = 7
_EXPECTED: Final = {
    Rule.COPIES: "3 or more",
    Rule.MEDIA: "2 or more",
    Rule.OFFSITE: "1 or more",
    Rule.IMMUTABLE: "1 or more",
    Rule.VERIFIED: "0",
}
_OUTCOMES: Final = {
    State.MET: Outcome.PASSED,
    State.NOT_MET: Outcome.FAILED,
    State.UNKNOWN: Outcome.FAILED,
    State.NOT_ASKED: Outcome.SKIPPED,
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the user asked for: no workloads are all of them. ``sign`` is a credential that signs evidence."""

    plan_file: Path
    workloads: Sequence[str] = ()
    record: bool = False
    sign: Path | None = None


@dataclass(slots=True)
class Status:
    """The matrix. ``digest`` is that of the plan file, in hexadecimal; ``now`` in Unix seconds."""

    plan: Plan
    digest: str
    now: int
    verdicts: list[Verdict]
    warnings: list[str] = field(default_factory=list)
    recorded: list[Recorded] = field(default_factory=list)

    @property
    def is_green(self) -> bool:
        """Whether no cell is red."""
        return all(verdict.is_green for verdict in self.verdicts)


def take_status(
    settings: Settings, environment: Mapping[str, str], wanted: Wanted, clock: Clock, progress: Progress
) -> Status:
    """Look at all that the plan names, and judge it.

    Raises ``UsageError`` for a plan that is none and for a workload that it does not have, and with
    ``record`` what ``Recorder`` raises if no vault of the plan accepts the signer.
    """
    file = read_plan(wanted.plan_file)
    names = _chosen(file.plan, wanted.workloads)
    survey = gather(settings, environment, file.plan, clock, names, progress)
    verdicts = [judge(facts) for facts in survey.facts]
    now = max((facts.now for facts in survey.facts), default=clock())
    status = Status(file.plan, file.digest.hex(), now, verdicts, survey.warnings)
    if wanted.record:
        status.recorded = _record(settings, environment, wanted, status, survey)
    return status


def _chosen(plan: Plan, workloads: Sequence[str]) -> list[str]:
    if unknown := sorted(set(workloads) - plan.workloads.keys()):
        msg = f"{unknown[0]}: the plan has no such workload"
        raise UsageError(msg, hint=f"It has {', '.join(plan.workloads)}.")
    return [name for name in plan.workloads if not workloads or name in workloads]


# -- evidence --------------------------------------------------------------------------------------


def _record(
    settings: Settings, environment: Mapping[str, str], wanted: Wanted, status: Status, survey: Survey
) -> list[Recorded]:
    """Sign the matrix, in every vault of the plan that can be reached and accepts the signer."""
    recorded: list[Recorded] = []
    failure: KeyNotAvailable | None = None
    for look in survey.looks.values():
        if look.vault is None:
            continue
        space = Workspace(replace(settings, vault=look.address))
        try:
            recorder = Recorder(space, look.vault, credential=wanted.sign, environment=environment, out=None)
        except KeyNotAvailable as error:
            failure = failure or error
            continue
        for part in range(0, len(status.verdicts), _WORKLOADS_A_PIECE):
            rows = [*_rows(status, part)]
            recorded.append(recorder.record(STATUS, f"plan {status.digest}", rows))
    if not recorded:
        raise failure or KeyNotAvailable(
            "no vault of the plan can be reached, so nothing was signed", hint="See the reasons above."
        )
    return recorded


def _rows(status: Status, first: int) -> Iterator[EvidenceRow]:
    """The cells of some workloads, which are named by their numbers in the plan file, from 1.

    Everybody who may read the store reads evidence, so neither names nor reasons are in it.
    """
    numbers = {name: number for number, name in enumerate(status.plan.workloads, 1)}
    for verdict in status.verdicts[first : first + _WORKLOADS_A_PIECE]:
        title = f"workload {numbers[verdict.facts.workload]}"
        for cell in verdict.cells:
            seen = f"{cell.value}, {cell.state}"
            yield evidence_row(f"{title}: {cell.rule}", expected(verdict, cell), seen, _OUTCOMES[cell.state])
        backups = [copy for copy in verdict.facts.copies if copy.kind is CopyKind.BACKUP]
        points = list(dict.fromkeys(copy.point for copy in backups if copy.point))
        outcome = Outcome.PASSED if points else Outcome.SKIPPED
        seen = f"{len(points)} newest points"
        yield evidence_row(f"{title}: points", "", seen, outcome, answer=" ".join(points[:_IDS_A_ROW]))
        suspect = list(
            dict.fromkeys(point for copy in backups if copy.suspect for point in copy.suspect.points)
        )
        if suspect:
            seen = f"{len(suspect)} newer points are suspect"
            answer = " ".join(suspect[:_IDS_A_ROW])  # whether that is red, the cells say
            yield evidence_row(f"{title}: suspect", "", seen, Outcome.SKIPPED, answer=answer)


def expected(verdict: Verdict, cell: Cell) -> str:
    """What a cell has to be to be met, for people."""
    if cell.rule in _EXPECTED:
        return _EXPECTED[cell.rule]
    wanted = verdict.facts.wanted
    limit_s = wanted.rpo_s if cell.rule is Rule.RPO else wanted.rto_s
    return "nothing" if limit_s is None else f"at most {format_duration(limit_s)}"
