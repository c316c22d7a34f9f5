"""What one copy is worth: why it does not count, if it does not. Pure. See ``docs/3-2-1.md``."""

from __future__ import annotations

from dataclasses import dataclass

from donjon.core.clock import iso
from donjon.core.units import format_duration
from donjon.plan.copies import Check, Copy, CopyKind, Depth, Facts, LockMode
from donjon.plan.fate import key_fate, shared_fate

#: A copy that is older than so many RPOs is none of what the workload is now.
STALE_RPOS = 2
#: The same, in seconds, where the plan has no RPO.
STALE_S = 14 * 86_400
#: Data is locked while a backup runs, and its point comes when that is done.
LOCK_SLACK_S = 86_400
#: Clocks of stores may be ahead of each other by so much.
SKEW_S = 300


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a copy does not count for something, and what to do. ``unknown``: for it cannot be looked at."""

    reason: str
    remedy: str
    unknown: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """A copy, and why it does not count: at all, as immutable, as verified, as offsite. None if it does."""

    copy: Copy
    fault: Fault | None
    immutable: Fault | None
    verified: Fault | None
    offsite: Fault | None


#: What to do about suspect points: make a clean one, or take a mark back that was a mistake.
LOOK_AT_MARKS = "`donjon verdict list`; clean the source and back it up, or lift marks that were a mistake"


def stale_after_s(facts: Facts) -> int:
    """How old a copy may be before it is no copy of the workload any more."""
    return STALE_S if facts.wanted.rpo_s is None else STALE_RPOS * facts.wanted.rpo_s


def look_at(copy: Copy, facts: Facts) -> Judged:
    """What a copy is worth."""
    if copy.kind is CopyKind.PRODUCTION:
        return Judged(copy, _fault(copy, facts), None, None, None)
    return Judged(
        copy, _fault(copy, facts), _mutable(copy, facts), _unverified(copy, facts), _near(copy, facts)
    )


def _fault(copy: Copy, facts: Facts) -> Fault | None:
    """Why a copy does not count at all."""
    again = fill(copy, facts)
    if copy.unreachable:
        return Fault(
            f"{copy.title} cannot be looked at: {copy.unreachable}", copy.hint or again, unknown=True
        )
    if copy.broken:
        return Fault(f"{copy.title} is not whole: {copy.broken}", copy.hint or again)
    return _empty(copy, facts) if copy.point_time is None else _aged(copy, copy.point_time, facts)


def _empty(copy: Copy, facts: Facts) -> Fault:
    """Why a copy without a point that counts does not."""
    if copy.suspect:
        return Fault(f"{copy.title} has no other points than suspect ones: {copy.suspect}", LOOK_AT_MARKS)
    what = "was never read" if copy.kind is CopyKind.PRODUCTION else f"holds nothing of {facts.workload}"
    return Fault(f"{copy.title} {what}", copy.hint or fill(copy, facts))


def _aged(copy: Copy, point_time: int, facts: Facts) -> Fault | None:
    """Whether its newest point is too old, or of the future."""
    if point_time > facts.now + SKEW_S:
        when = iso(point_time)
        return Fault(f"{copy.title}: its newest point is of the future, {when}", "Set the clocks right.")
    age_s, limit_s = facts.now - point_time, stale_after_s(facts)
    if age_s <= limit_s:
        return None
    old = f"{format_duration(age_s)} old; a copy counts for {format_duration(limit_s)}"
    if copy.suspect:
        return Fault(f"{copy.title} is {old}; newer points are suspect: {copy.suspect}", LOOK_AT_MARKS)
    return Fault(f"{copy.title} is {old}", fill(copy, facts))


def fill(copy: Copy, facts: Facts) -> str:
    """The command that brings a copy up to date."""
    return f"`donjon plan run {facts.workload}`; see why the last run did not reach {copy.title}"


def promised_until(copy: Copy, facts: Facts) -> int:
    """Until when the newest point has to be locked, in Unix seconds.

    Until retention lets it go, less ``LOCK_SLACK_S``. Where a custodian extends locks, that much of a lock is
    enough as a custodian leaves at least. A plan that counts no points wants the lock to hold until the copy
    is stale.
    """
    kept_s = facts.wanted.kept_s
    if copy.kind is CopyKind.SNAPSHOT or not kept_s:
        return facts.now + stale_after_s(facts)
    until = (copy.point_time or facts.now) + kept_s - LOCK_SLACK_S
    return min(until, facts.now + copy.kept_s) if copy.kept_s else until


def _mutable(copy: Copy, facts: Facts) -> Fault | None:
    """Why a copy does not count as immutable."""
    if copy.lock_mode is not LockMode.COMPLIANCE:
        weak = {
            LockMode.NONE: "has no locks",
            LockMode.ADVISORY: "is kept by locks that only Donjon respects",
            LockMode.GOVERNANCE: "is kept by locks that some administrators can lift",
        }[copy.lock_mode]
        remedy = "Keep a copy where the provider enforces locks: see docs/guide-s3.md"
        if copy.kind is CopyKind.SNAPSHOT:
            remedy = f"Set `snapshots: lock:` of {facts.workload}, where the provider locks snapshots"
        return Fault(f"{copy.title} {weak}", remedy)
    if copy.locked_until <= facts.now:
        ended = f"since {iso(copy.locked_until)}" if copy.locked_until else "at all"
        return Fault(f"{copy.title}: something is not locked {ended}", _extend(copy))
    wanted = promised_until(copy, facts)
    if copy.locked_until < wanted:
        lasts = f"its locks end {iso(copy.locked_until)}, and the point is to stay until {iso(wanted)}"
        return Fault(f"{copy.title}: {lasts}", _extend(copy))
    if facts.production is not None and (key := key_fate(copy, facts.production)):
        return Fault(
            f"{copy.title} is locked, but {key}: without them it is lost all the same", _add_key(copy)
        )
    return None


def _extend(copy: Copy) -> str:
    if copy.kind is CopyKind.SNAPSHOT:
        return "Let the plan lock snapshots for longer"
    return f"`donjon custody extend --vault {copy.address} --credential FILE`, daily"


def _add_key(copy: Copy) -> str:
    if copy.kind is CopyKind.SNAPSHOT:
        return "Copy it to another account, with a key there"
    return f"`donjon keys add kit --vault {copy.address} --name NAME --out FILE`, then `donjon keys reseal`"


def _unverified(copy: Copy, facts: Facts) -> Fault | None:
    """Why a copy does not count as verified."""
    percent = facts.wanted.data_percent
    again = (
        f"`donjon verify --vault {copy.address} --kit FILE --data {percent or 1:g} --record --sign AUDITOR`"
    )
    if copy.kind is CopyKind.SNAPSHOT:
        again = f"`donjon plan run {facts.workload}`, which reads the snapshot"
    if copy.tampered:
        return Fault(f"{copy.title} was tampered with: {copy.tampered}", copy.hint or again)
    check = copy.checked
    if check is None:
        return Fault(f"{copy.title} was never verified", again)
    if not check.passed:
        return Fault(f"{copy.title} failed its last verification ({check.source}, {iso(check.at)})", again)
    why = _shallow(check, percent) or _old(check, facts) if copy.kind is CopyKind.BACKUP else ""
    return Fault(f"{copy.title}: {why}", again) if why else None


def _shallow(check: Check, percent: float) -> str:
    if check.by_writer:
        return "only a writer signed its verification, and whoever takes over production has that key"
    if percent > 0 and check.depth is not Depth.DATA:
        return f"only its {check.depth} was verified, no data was read back"
    if check.data_percent < percent:
        return f"{check.data_percent:g} % of the data was read back, and the plan wants {percent:g} %"
    return ""


def _old(check: Check, facts: Facts) -> str:
    age_s, limit_s = facts.now - check.at, facts.wanted.verify_every_s
    if age_s <= limit_s:
        return ""
    wanted = format_duration(limit_s)
    return f"was last verified {format_duration(age_s)} ago, and the plan wants that every {wanted}"


def _near(copy: Copy, facts: Facts) -> Fault | None:
    """Why a copy does not count as offsite: it shares the fate of production."""
    production = facts.production
    if production is None or production.place is None:
        return Fault("nothing tells where production is", f"Write `site:` for {facts.workload} into the plan")
    if shared := shared_fate(production, copy):
        return Fault(f"{copy.title} shares with production: {', '.join(shared)}", elsewhere(facts))
    return None


def elsewhere(facts: Facts) -> str:
    """What to do about too few copies."""
    name = facts.workload
    return f"Add a vault at another site, in another account, to `copies` of {name}; `donjon plan run {name}`"
