"""Which recovery points stay. See ``docs/locks.md``, "Which points are live".

Points are counted for each group on its own: a writer key, and its workload where that is known. So no
writer can evict a point of another one. Calendars are UTC, weeks those of ISO 8601.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime

from donjon.core.errors import UsageError
from donjon.core.units import format_duration, parse_duration

#: More would be no policy, and a slip of the finger.
MAX_COUNT = 1_000_000


@dataclass(frozen=True, slots=True)
class Candidate:
    """A point as retention sees it.

    ``time`` is in Unix seconds, when the store received it, never before that of the writer's point before
    it. ``workload`` is None where it is sealed. ``uncounted`` says why the point takes no place of another
    one, empty if it counts.
    """

    point_id: bytes
    writer: bytes
    sequence: int
    time: int
    workload: str | None = None
    uncounted: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """How many points to keep of each kind; 0 for none. ``within_s`` is in seconds before the newest point.

    An empty policy keeps everything.
    """

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within_s: int = 0

    def __post_init__(self) -> None:
        """Raises ``UsageError`` for a count that cannot be meant."""
        counts = (self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly)
        if not all(0 <= count <= MAX_COUNT for count in counts) or self.within_s < 0:
            msg = "a retention policy needs counts from 0 to a million"
            raise UsageError(msg, hint="Leave an option out to keep nothing on its account.")

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is ever to go."""
        return self == Policy()

    def __str__(self) -> str:
        names = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
        parts = [f"{name} {count}" for name in names if (count := getattr(self, name))]
        parts += [f"within {format_duration(self.within_s)}"] if self.within_s else []
        return ", ".join(parts) or "everything"


def parse_policy(rules: Iterable[str]) -> Policy:
    """The policy of rules like ``daily=30`` or ``within=90d``. Raises ``UsageError``."""
    counts: dict[str, int] = {}
    for rule in rules:
        name, _, value = rule.partition("=")
        field_name = "within_s" if name == "within" else name
        if field_name not in _FIELDS or field_name in counts:
            msg = f"{rule!r}: is no rule of retention, or comes twice"
            raise UsageError(msg, hint=f"Use each once: {_RULES}.")
        if name == "within":
            counts[field_name] = parse_duration(value)
        elif value.isascii() and value.isdigit() and int(value):
            counts[field_name] = int(value)
        else:
            msg = f"{rule!r}: needs a number, 1 or more"
            raise UsageError(msg, hint=f"Write it like {_RULES}.")
    return Policy(**counts)


_FIELDS = {member.name for member in fields(Policy)}
_RULES = "last=3, hourly=24, daily=30, weekly=8, monthly=12, yearly=7, within=90d"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a point stays, and on what account; ``reasons`` is empty for one that goes."""

    candidate: Candidate
    reasons: tuple[str, ...]

    @property
    def stays(self) -> bool:
        """Whether the point is kept."""
        return bool(self.reasons)


@dataclass(slots=True)
class _Rule:
    """Keeps the newest point of each of the newest ``left`` spans of time."""

    name: str
    left: int
    span: Callable[[Candidate], object]
    seen: set[object] = field(default_factory=set)

    def takes(self, candidate: Candidate) -> bool:
        span = self.span(candidate)
        if not self.left or span in self.seen:
            return False
        self.seen.add(span)
        self.left -= 1
        return True


def decide(policy: Policy, candidates: Iterable[Candidate], now: int) -> list[Decision]:
    """What happens to each point, oldest first. ``now`` is the provider's time in Unix seconds.

    A point from the future stays and is not counted, so that it takes no place of an honest one.
    """

    def group(candidate: Candidate) -> tuple[bytes, bool, str]:
        return candidate.writer, candidate.workload is not None, candidate.workload or ""

    decisions: list[Decision] = []
    for _, members in itertools.groupby(sorted(candidates, key=group), key=group):
        decisions += _decide_group(policy, list(members), now)
    return sorted(decisions, key=lambda decision: _order(decision.candidate))


def _order(candidate: Candidate) -> tuple[int, bytes, int]:
    return candidate.time, candidate.writer, candidate.sequence


def _decide_group(policy: Policy, members: list[Candidate], now: int) -> list[Decision]:
    rules = _rules(policy)
    newest: int | None = None
    decisions = []
    for candidate in sorted(members, key=_order, reverse=True):
        if candidate.uncounted or candidate.time > now:
            reason = candidate.uncounted or "its time is in the future"
            decisions.append(Decision(candidate, (f"not counted: {reason}",)))
            continue
        newest = candidate.time if newest is None else newest
        reasons = [rule.name for rule in rules if rule.takes(candidate)]
        if policy.within_s and candidate.time > newest - policy.within_s:
            reasons.append("within")
        if policy.keeps_all:
            reasons = ["no policy"]
        decisions.append(Decision(candidate, tuple(reasons)))
    return decisions


def _rules(policy: Policy) -> list[_Rule]:
    return [
        _Rule("last", policy.last, lambda candidate: candidate.point_id),
        _Rule("hourly", policy.hourly, lambda candidate: candidate.time // 3600),
        _Rule("daily", policy.daily, lambda candidate: candidate.time // 86_400),
        _Rule("weekly", policy.weekly, lambda candidate: _day(candidate).isocalendar()[:2]),
        _Rule("monthly", policy.monthly, lambda candidate: (_day(candidate).year, _day(candidate).month)),
        _Rule("yearly", policy.yearly, lambda candidate: _day(candidate).year),
    ]


def _day(candidate: Candidate) -> datetime:
    return datetime.fromtimestamp(candidate.time, UTC)
