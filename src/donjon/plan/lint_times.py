"""Whether times fit: schedules, windows, objectives, retention, locks of snapshots, hooks."""

from __future__ import annotations

from collections.abc import Iterator

from donjon.core.units import format_duration
from donjon.plan.cron import Cron
from donjon.plan.gaps import longest_gap
from donjon.plan.model import Plan, Rules, Schedule
from donjon.plan.problems import Finding
from donjon.plan.retention import Policy
from donjon.plan.said import where
from donjon.plan.windows import DailyWindow

_DAY_S = 86_400
#: The longest of each, so that nothing stays longer than this tells.
_SPANS = {
    "hourly": 3600,
    "daily": _DAY_S,
    "weekly": 7 * _DAY_S,
    "monthly": 31 * _DAY_S,
    "yearly": 366 * _DAY_S,
}
#: Docs of EBS, API_LockSnapshot: LockDuration is 1 to 36,500 days.
_SHORTEST_EBS_LOCK_S = _DAY_S
_WITH_SNAPSHOTS = {"ebs", "azure-disk", "gce-disk"}
_WITHOUT_LOCK = {"gce-disk", "tree"}


def times(plan: Plan, name: str) -> Iterator[Finding]:
    """What is wrong with the times of one workload."""
    rules = plan.rules(name)
    gap = longest_gap(rules.schedule) if rules.schedule else None
    if rules.schedule is not None:
        yield from _schedule(plan, name, rules.schedule)
    yield from _objective(plan, name, rules, gap)
    yield from _retention(plan, name, rules, gap)
    yield from _snapshots(plan, name, rules, gap)
    yield from _hooks(plan, name, rules, gap)


def horizon(policy: Policy, gap: int | None) -> int | None:
    """How long the oldest point stays at most, in seconds; None for ever. ``gap`` is between two starts."""
    if policy.keeps_all:
        return None
    # Days without a point are not counted, so that those with one reach back further.
    counted = [int(getattr(policy, field)) * max(span, gap or 0) for field, span in _SPANS.items()]
    return max(policy.within_s, policy.last * (gap or 0), *counted)


def _schedule(plan: Plan, name: str, schedule: Schedule) -> Iterator[Finding]:
    if schedule.cron is not None:
        cron, path = Cron.parse(schedule.cron), where(plan, name, "schedule", "cron")
        if not cron.can_fire:
            yield Finding("never-due", path, f"{schedule.cron!r}: no month has such a day")
            return
        if schedule.window is not None:
            window = DailyWindow.of(schedule.window.start, schedule.window.end)
            if not any(map(window.contains, cron.minutes_of_day)):
                told = f"{schedule.window.start} to {schedule.window.end}"
                yield Finding("outside-window", path, f"none of its times is within the window, {told}")
    plain = longest_gap(schedule.model_copy(update={"jitter": 0}))
    if schedule.jitter and plain is not None and schedule.jitter >= plain:
        path = where(plan, name, "schedule", "jitter")
        message = (
            f"{format_duration(schedule.jitter)} is as long as {format_duration(plain)} between two starts"
        )
        yield Finding("jitter", path, message)


def _objective(plan: Plan, name: str, rules: Rules, gap: int | None) -> Iterator[Finding]:
    if rules.rpo is None:
        return
    path = where(plan, name, "rpo")
    if rules.schedule is None:
        yield Finding("rpo-unscheduled", path, f"{name!r} has no schedule that could meet it")
        return
    if gap is None:  # never due, which is told already
        return
    told = f"up to {format_duration(gap)} between two starts"
    hint = f"Start more often, or write at least {_rounded_up(gap)}."
    needs = where(plan, name, "schedule")
    if rules.rpo < gap:
        message = f"{format_duration(rules.rpo)} is shorter than the schedule: {told}"
        yield Finding("rpo", path, message, hint, needs=needs)
    elif rules.rpo < gap + gap // 50:
        message = f"{format_duration(rules.rpo)} leaves a run no time: {told}"
        yield Finding("rpo-tight", path, message, hint, needs=needs)


def _rounded_up(gap: int) -> str:
    """The gap and some time for the run, in whole hours or minutes."""
    wanted = gap + gap // 24
    return f"{-(-wanted // 3600)}h" if wanted > 3600 else f"{-(-wanted // 60)}m"


def _retention(plan: Plan, name: str, rules: Rules, gap: int | None) -> Iterator[Finding]:
    policy = rules.retention.policy if rules.retention else Policy()
    stays, path = horizon(policy, gap), where(plan, name, "retention")
    for vault in dict.fromkeys((rules.vault, *rules.copies)):
        cap = plan.vaults[vault].retention_cap if vault in plan.vaults else None
        if vault is None or cap is None:
            continue
        told = f"the vault {vault!r} allows locks of {format_duration(cap)}"
        needs = ("vaults", vault, "retention_cap")
        if stays is None:
            yield Finding("retention-endless", path, f"{name!r} keeps everything, and {told}", needs=needs)
        elif stays > cap:
            message = f"keeps points for {format_duration(stays)}, and {told}"
            yield Finding("retention-cap", path, message, needs=needs)
    if rules.vault is None:
        return
    if rules.verify is None:
        yield Finding("verify", ("workloads", name), "no copy of it is ever read back", at_key=True)
    elif stays is not None and rules.verify.every > stays:
        message = f"points go after {format_duration(stays)}, and are read back every"
        message += f" {format_duration(rules.verify.every)}"
        yield Finding("verify-late", where(plan, name, "verify", "every"), message)


def _snapshots(plan: Plan, name: str, rules: Rules, gap: int | None) -> Iterator[Finding]:
    policy, source = rules.snapshots, plan.workloads[name].source
    if policy is None:
        return
    has_own = "snapshots" in plan.workloads[name].model_fields_set  # defaults need not fit everything
    is_file_system = source.kind == "tree" and source.snapshot is not None
    if source.kind not in _WITH_SNAPSHOTS and not is_file_system:
        if has_own:
            what = f"{source.kind!r} has no snapshots"
            if source.kind == "tree":
                what = "files have snapshots only with `snapshot: btrfs`"
            yield Finding("no-snapshots", ("workloads", name, "snapshots"), what, at_key=True)
        return
    if policy.lock is None:
        return
    path = where(plan, name, "snapshots", "lock")
    if source.kind in _WITHOUT_LOCK:
        yield Finding("no-lock", path, f"nobody can lock snapshots of {source.kind!r}")
        return
    yield from _lock(plan, name, policy.lock, policy.keep, gap)


def _lock(plan: Plan, name: str, lock: int, keep: int, gap: int | None) -> Iterator[Finding]:
    path = where(plan, name, "snapshots", "lock")
    if plan.workloads[name].source.kind == "ebs" and lock < _SHORTEST_EBS_LOCK_S:
        yield Finding("bad-value", path, "EBS locks snapshots for a day or longer", "Write 1d or more.")
    elif gap is not None and lock > keep * gap:
        stay = format_duration(keep * gap)
        message = f"{format_duration(lock)} is longer than the {keep} that are kept stay, {stay}"
        yield Finding("snapshot-lock", path, message, needs=where(plan, name, "schedule"))
    elif gap is not None and lock < gap:
        message = f"{format_duration(lock)} ends before the next one comes, after {format_duration(gap)}"
        yield Finding("snapshot-gap", path, message, needs=where(plan, name, "schedule"))


def _hooks(plan: Plan, name: str, rules: Rules, gap: int | None) -> Iterator[Finding]:
    hooks, path = rules.hooks, where(plan, name, "hooks")
    if hooks is None:
        return
    if hooks.before is None and hooks.after is None:
        yield Finding("hooks-empty", path, "there is no command", at_key=True)
    elif hooks.after is None:
        yield Finding("hooks-unreleased", path, "nothing releases what `before` holds", at_key=True)
    if gap is not None and hooks.timeout >= gap:
        message = f"{format_duration(hooks.timeout)} is as long as there is between two starts"
        yield Finding("hooks-long", where(plan, name, "hooks", "timeout"), message)
