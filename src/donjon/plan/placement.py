"""Whether the copies of a workload obey the rule 3-2-1-1-0. Pure: facts go in, a verdict comes out.

``docs/3-2-1.md`` defines every cell. What is not known is never good enough.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from donjon.core.clock import iso
from donjon.core.units import format_duration
from donjon.plan.copies import Copy, CopyKind, Facts
from donjon.plan.fate import separate, shared_fate
from donjon.plan.worth import LOOK_AT_MARKS, SKEW_S, Fault, Judged, elsewhere, look_at

#: Copies besides production, and media, that the rule wants.
OTHERS = 2
MEDIA = 2
#: A restore that was timed longer ago tells nothing of today.
DRILL_EVERY_S = 92 * 86_400


class Rule(enum.StrEnum):
    """The five digits, and the two objectives."""

    COPIES = "copies"
    MEDIA = "media"
    OFFSITE = "offsite"
    IMMUTABLE = "immutable"
    VERIFIED = "verified"
    RPO = "rpo"
    RTO = "rto"


class State(enum.StrEnum):
    """How a cell stands. All but the first and the last are red."""

    MET = "met"
    NOT_MET = "not-met"
    UNKNOWN = "unknown"  #: it is not met, and something that could change that cannot be looked at
    NOT_ASKED = "not-asked"  #: the plan has no such objective


@dataclass(frozen=True, slots=True)
class Cell:
    """One digit of one workload. ``value`` is what was found, in a word; ``remedy`` empty if it is met."""

    rule: Rule
    state: State
    value: str
    reason: str
    remedy: str = ""

    @property
    def is_red(self) -> bool:
        """Whether somebody has to do something."""
        return self.state in {State.NOT_MET, State.UNKNOWN}


@dataclass(frozen=True, slots=True)
class Shared:
    """Two copies that one event takes, by their titles, and what they share."""

    one: str
    other: str
    what: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came out. ``counted`` are the titles of the copies that the first five cells rest on."""

    facts: Facts
    cells: tuple[Cell, ...]
    copies: tuple[Judged, ...]
    counted: frozenset[str]
    shared: tuple[Shared, ...]

    @property
    def is_green(self) -> bool:
        """Whether no cell is red."""
        return not any(cell.is_red for cell in self.cells)

    def cell(self, rule: Rule) -> Cell:
        """The cell of a rule."""
        return next(cell for cell in self.cells if cell.rule is rule)


def judge(facts: Facts) -> Verdict:
    """The verdict on one workload.

    The rule is an existential one: it holds if there are copies with which it holds. So it is tried with all
    copies that count, and with those of them that are verified; where the second obeys more of the five
    digits, the others are left out. A further copy therefore never makes the verdict worse.
    """
    judged = tuple(look_at(copy, facts) for copy in facts.copies)
    able = [one for one in judged if one.fault is None]
    left_out = [one for one in judged if one.fault is not None]
    verified = [one for one in able if one.verified is None]
    tries = [_Choice(facts, chosen, left_out).cells() for chosen in (able, verified)]
    best = max(range(len(tries)), key=lambda number: (_met(tries[number]), -number))
    chosen = (able, verified)[best]
    return Verdict(
        facts,
        (*tries[best], _rpo(facts, judged), _rto(facts, judged)),
        judged,
        frozenset(one.copy.title for one in chosen),
        _shared([one.copy for one in able]),
    )


def _met(cells: Sequence[Cell]) -> int:
    return sum(not cell.is_red for cell in cells)


# -- the five digits -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Choice:
    """The cells, if the rule is to rest on these copies. ``left_out`` are those that cannot count."""

    facts: Facts
    chosen: Sequence[Judged]
    left_out: Sequence[Judged]

    def cells(self) -> tuple[Cell, ...]:
        return (self._copies(), self._media(), self._offsite(), self._immutable(), self._verified())

    @property
    def _others(self) -> list[Judged]:
        """All but production, backups first: what to do is said of the first."""
        others = [one for one in self.chosen if one.copy.kind is not CopyKind.PRODUCTION]
        return sorted(others, key=_is_backup, reverse=True)

    def _copies(self) -> Cell:
        others = [one.copy for one in self._others]
        here = len(self.chosen) - len(others)
        count = here + separate(others)
        names = ", ".join(one.copy.title for one in self.chosen)
        if here and count > OTHERS:
            return Cell(Rule.COPIES, State.MET, str(count), names)
        why = [_together(shared) for shared in _shared(others)] if others else []
        if not self.facts.production:
            why.append("nothing tells of production")
        few = f"{count} of {OTHERS + 1} copies"
        first = Fault(f"{few}: {'; '.join(why)}" if why else few, elsewhere(self.facts))
        return self._red(Rule.COPIES, str(count), first)

    def _media(self) -> Cell:
        media = sorted({one.copy.medium for one in self.chosen if one.copy.medium is not None})
        told = ", ".join(media) or "nothing"
        if len(media) >= MEDIA:
            return Cell(Rule.MEDIA, State.MET, str(len(media)), told)
        first = Fault(f"all is on one medium: {told}", elsewhere(self.facts))
        return self._red(Rule.MEDIA, str(len(media)), first)

    def _offsite(self) -> Cell:
        good = [one.copy for one in self._others if one.offsite is None]
        if good:
            told = ", ".join(f"{copy.title} at {copy.place.site}" for copy in good if copy.place)
            return Cell(Rule.OFFSITE, State.MET, str(len(good)), told)
        return self._red(Rule.OFFSITE, "0", *(one.offsite for one in self._others))

    def _immutable(self) -> Cell:
        good = [one.copy for one in self._others if one.immutable is None]
        if good:
            told = ", ".join(f"{copy.title} until {iso(copy.locked_until)}" for copy in good)
            return Cell(Rule.IMMUTABLE, State.MET, str(len(good)), told)
        return self._red(Rule.IMMUTABLE, "0", *(one.immutable for one in self._others))

    def _verified(self) -> Cell:
        """0 unverified, as the last digit has it: the value counts those that are not."""
        others = self._others
        bad = [one.verified for one in others if one.verified is not None]
        backups = any(map(_is_backup, others))
        if backups and not bad:
            told = ", ".join(
                f"{one.copy.title} {iso(one.copy.checked.at)}" for one in others if one.copy.checked
            )
            return Cell(Rule.VERIFIED, State.MET, "0", told)
        none = Fault("there is no backup that could be verified", elsewhere(self.facts))
        return self._red(Rule.VERIFIED, str(len(bad)) if backups else "-", *(bad or [none]))

    def _red(self, rule: Rule, value: str, *faults: Fault | None) -> Cell:
        """A cell that is not met: for these faults, and because some copies do not count at all."""
        own = [fault for fault in faults if fault is not None]
        rests_on_own = rule is Rule.VERIFIED and any(map(_is_backup, self._others))
        lost = [] if rests_on_own else [one.fault for one in self.left_out if one.fault is not None]
        told = [*lost, *own] or [Fault("there is no copy besides production", elsewhere(self.facts))]
        state = State.UNKNOWN if any(fault.unknown for fault in told) else State.NOT_MET
        return Cell(rule, state, value, "; ".join(fault.reason for fault in told), told[0].remedy)


def _is_backup(judged: Judged) -> bool:
    return judged.copy.kind is CopyKind.BACKUP


def _shared(copies: Sequence[Copy]) -> tuple[Shared, ...]:
    return tuple(
        Shared(one.title, other.title, what)
        for one, other in combinations(copies, 2)
        if (what := shared_fate(one, other))
    )


def _together(shared: Shared) -> str:
    return f"{shared.one} and {shared.other} count once, for they share: {', '.join(shared.what)}"


# -- the objectives --------------------------------------------------------------------------------


def _rpo(facts: Facts, judged: Sequence[Judged]) -> Cell:
    wanted_s = facts.wanted.rpo_s
    backups = [one.copy for one in judged if one.copy.kind is CopyKind.BACKUP]
    whole = [c for c in backups if not (c.unreachable or c.broken) and c.point_time is not None]
    times = [c.point_time for c in whole if c.point_time is not None and c.point_time <= facts.now + SKEW_S]
    age_s = max(0, facts.now - max(times)) if times else None
    value = "-" if age_s is None else format_duration(age_s)
    if wanted_s is None:
        return Cell(Rule.RPO, State.NOT_ASKED, value, "the plan has no RPO")
    limit = format_duration(wanted_s)
    suspect = next((copy.suspect for copy in backups if copy.suspect), None)
    run = LOOK_AT_MARKS if suspect else f"`donjon plan run {facts.workload}`"
    but = f", but for suspect ones: {suspect}" if suspect else ""
    if age_s is not None and age_s <= wanted_s:
        return Cell(Rule.RPO, State.MET, value, f"the newest whole point is {value} old; wanted {limit}")
    state = _unless_hidden(judged)
    if age_s is None:
        told = f"there is no whole point; wanted one every {limit}"
    else:
        told = f"the newest whole point is {value} old; wanted {limit}"
    return Cell(Rule.RPO, state, value, told + but, run)


def _unless_hidden(judged: Sequence[Judged]) -> State:
    """How a cell stands that is not met, by what could be seen."""
    is_hidden = any(one.fault is not None and one.fault.unknown for one in judged)
    return State.UNKNOWN if is_hidden else State.NOT_MET


def _rto(facts: Facts, judged: Sequence[Judged]) -> Cell:
    wanted_s, last = facts.wanted.rto_s, facts.restore
    value = "-" if last is None else format_duration(last.seconds)
    if wanted_s is None:
        return Cell(Rule.RTO, State.NOT_ASKED, value, "the plan has no RTO")
    limit = format_duration(wanted_s)
    drill = f"`donjon restore {facts.workload}@latest FOLDER --record`"
    if last is None:
        state = _unless_hidden(judged)
        return Cell(Rule.RTO, state, value, f"no restore was timed; wanted {limit}", drill)
    told = f"{value} on {iso(last.at)} ({last.source}); wanted {limit}"
    if not last.passed:
        return Cell(Rule.RTO, State.NOT_MET, value, f"the last timed restore failed: {told}", drill)
    if facts.now - last.at > DRILL_EVERY_S:
        old = f"the last timed restore is more than {format_duration(DRILL_EVERY_S)} ago: {told}"
        return Cell(Rule.RTO, State.NOT_MET, value, old, drill)
    if last.seconds > wanted_s:
        slow = "Restore in parallel or from a nearer copy, or agree on another RTO"
        return Cell(Rule.RTO, State.NOT_MET, value, f"took {told}", slow)
    return Cell(Rule.RTO, State.MET, value, f"took {told}")
