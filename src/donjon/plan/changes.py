"""What a change of the plan weakens: pure, and nothing that it does not know to be harmless passes.

Vaults are told apart by their addresses, so that one may be renamed. Rules are compared as they hold for each
workload, so that it makes no difference whether they are among the defaults.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from donjon.core.units import format_duration, format_size
from donjon.plan.gaps import longest_gap
from donjon.plan.model import (
    CREDENTIAL_LIMITS,
    Credential,
    Limits,
    Plan,
    Retention,
    Rules,
    Site,
    SnapshotPolicy,
    Verification,
)
from donjon.plan.narrowing import narrowed
from donjon.plan.problems import Path, shown

_JUDGED: Final = "Whether copies share the fate of production is judged by this."


@dataclass(frozen=True, slots=True)
class Weakening:
    """One thing that is weaker: what changes, and what that means.

    ``vaults`` are the addresses of those it is about.
    """

    path: str
    change: str
    meaning: str
    vaults: tuple[str, ...] = ()


def weakenings(old: Plan, new: Plan) -> list[Weakening]:
    """Everything that a new plan protects less than an old one; empty if it may come into force as it is."""
    found = [*_sites(old, new), *_credentials(old, new)]
    for name, workload in old.workloads.items():
        vaults = addresses(old, name)
        for path, change, meaning in _workload(old, new, name):
            found.append(Weakening(shown(("workloads", name, *path)), change, meaning, vaults))
        if name in new.workloads:
            for field, change, meaning in narrowed(workload.source, new.workloads[name].source):
                found.append(Weakening(shown(("workloads", name, "source", field)), change, meaning, vaults))
    return found


def differences(old: Plan, new: Plan) -> list[str]:
    """The places of all that two plans say differently."""
    before, after = (plan.model_dump(mode="json", exclude_unset=True) for plan in (old, new))
    return [shown(path) for path in _different(before, after)]


def _different(before: Any, after: Any, path: Path = ()) -> Iterator[Path]:
    if not isinstance(before, dict) or not isinstance(after, dict):
        if before != after:
            yield path
        return
    for key in sorted({*before, *after}):
        if key in before and key in after:
            yield from _different(before[key], after[key], (*path, key))
        else:
            yield (*path, key)


def addresses(plan: Plan, workload: str) -> tuple[str, ...]:
    """The addresses of the vaults that a workload has backups in."""
    rules = plan.rules(workload)
    found = (_address(plan, name) for name in (rules.vault, *rules.copies))
    return tuple(url for url in found if url)


def _address(plan: Plan, vault: str | None) -> str | None:
    return plan.vaults[vault].url if vault in plan.vaults and vault is not None else None


_Change = tuple[Path, str, str]


def _workload(old: Plan, new: Plan, name: str) -> Iterator[_Change]:
    if name not in new.workloads:
        yield (), "is removed", "It is not backed up any more, and its last point grows old."
        return
    before, after = old.rules(name), new.rules(name)
    yield from _places(old, new, name)
    yield from _production(old.sites.get(before.site or ""), new.sites.get(after.site or ""))
    yield from _schedule(before, after)
    yield from _retention(before.retention or Retention(), after.retention or Retention())
    yield from _objectives(before, after)
    yield from _snapshots(before.snapshots, after.snapshots)
    yield from _verification(before.verify, after.verify)
    yield from _limits(before.limits or Limits(), after.limits or Limits())


def _places(old: Plan, new: Plan, name: str) -> Iterator[_Change]:
    before, after = _address(old, old.rules(name).vault), _address(new, new.rules(name).vault)
    if before and before != after:
        to = f"{after} instead of {before}" if after else "nowhere"
        meaning = "New points go elsewhere, and those that are there grow old."
        yield ("vault",), f"backups go to {to}", meaning
    for url in addresses(old, name):
        if url != before and url not in addresses(new, name):
            yield ("copies",), f"the copy in {url} is removed", "One vault less that outlasts the others."


def _production(before: Site | None, after: Site | None) -> Iterator[_Change]:
    if before is not None and after is None:
        yield ("site",), "is not told any more", _JUDGED
    for field, change in _moved(before, after):
        yield ("site", field), change, _JUDGED


def _schedule(before: Rules, after: Rules) -> Iterator[_Change]:
    old = longest_gap(before.schedule) if before.schedule else None
    new = longest_gap(after.schedule) if after.schedule else None
    if old is None:
        return
    if new is None:
        yield ("schedule",), "is removed or never comes", "It is backed up only when somebody says so."
    elif new > old:
        change = f"up to {format_duration(new)} between two starts instead of {format_duration(old)}"
        yield ("schedule",), change, "More work is lost when the newest point is all that is left."


def _retention(before: Retention, after: Retention) -> Iterator[_Change]:
    meaning = "Points go that would have stayed."
    if after.policy.keeps_all:
        return
    if before.policy.keeps_all:
        yield ("retention",), f"keeps {after.policy} instead of everything", meaning
        return
    for field in Retention.model_fields:
        old, new = getattr(before, field), getattr(after, field)
        if new < old:
            told = (format_duration(new), format_duration(old)) if field == "within" else (new, old)
            yield ("retention", field), f"{told[0]} instead of {told[1]}", meaning


def _objectives(before: Rules, after: Rules) -> Iterator[_Change]:
    meanings = {
        "rpo": "Nobody hears of points that are older than they were to be.",
        "rto": "Nobody hears of restores that take longer than they were to.",
    }
    for field, meaning in meanings.items():
        yield from _longer((field,), getattr(before, field), getattr(after, field), meaning)


def _longer(path: Path, old: int | None, new: int | None, meaning: str) -> Iterator[_Change]:
    """A time that must not grow, where none at all is the longest."""
    if old is not None and (new is None or new > old):
        told = "none" if new is None else format_duration(new)
        yield path, f"{told} instead of {format_duration(old)}", meaning


def _snapshots(before: SnapshotPolicy | None, after: SnapshotPolicy | None) -> Iterator[_Change]:
    if before is None:
        return
    if after is None:
        yield ("snapshots",), "are not taken any more", "Nothing near production to come back from fast."
        return
    if after.keep < before.keep:
        meaning = "The older ones go, at once."
        yield ("snapshots", "keep"), f"{after.keep} instead of {before.keep}", meaning
    if before.lock is not None and (after.lock or 0) < before.lock:
        change = f"{format_duration(after.lock or 0)} instead of {format_duration(before.lock)}"
        yield ("snapshots", "lock"), change, "Whoever administers production can delete them sooner."
    for site in before.copy_to:
        if site not in after.copy_to:
            change = f"{site!r} gets no copy any more"
            yield ("snapshots", "copy_to"), change, "One place less that has them."


def _verification(before: Verification | None, after: Verification | None) -> Iterator[_Change]:
    meaning = "Damage is found later."
    if before is None:
        return
    if after is None:
        yield ("verify",), "is removed", "Nobody reads back what was stored."
        return
    yield from _longer(("verify", "every"), before.every, after.every, meaning)
    if after.data_percent < before.data_percent:
        change = f"{after.data_percent:g} instead of {before.data_percent:g}"
        yield ("verify", "data_percent"), change, meaning


def _limits(before: Limits, after: Limits) -> Iterator[_Change]:
    meaning = "Runs take longer, perhaps longer than there is time."
    if after.upload is not None and (before.upload is None or after.upload < before.upload):
        old = "no limit" if before.upload is None else f"{format_size(before.upload)}/s"
        yield ("limits", "upload"), f"{format_size(after.upload)}/s instead of {old}", meaning
    if after.requests is not None and (before.requests is None or after.requests < before.requests):
        old = "no limit" if before.requests is None else f"{before.requests}"
        yield ("limits", "requests"), f"{after.requests} a second instead of {old}", meaning


def _credentials(old: Plan, new: Plan) -> Iterator[Weakening]:
    """Stored credentials that are checked more loosely, or not any more. Their names do not matter."""
    after: dict[tuple[object, ...], list[Credential]] = {}
    for credential in new.credentials.values():
        after.setdefault(_identity(new, credential), []).append(credential)
    for name, before in old.credentials.items():
        if before.stored is None:
            continue
        vaults = tuple(url for url in (_address(old, before.vault),) if url)
        now = after.get(_identity(old, before))
        if now is None and not before.is_policy:
            continue
        if now is None:
            change = "is not checked any more, or another one instead"
            yield Weakening(shown(("credentials", name)), change, "Nobody hears that it is old.", vaults)
            continue
        for path, change, meaning in _credential_limits(before, now):
            yield Weakening(shown(("credentials", name, *path)), change, meaning, vaults)


def _identity(plan: Plan, credential: Credential) -> tuple[object, ...]:
    """Which stored credential it is, and what it may do: neither how a plan names it, nor who looks at it."""
    own = (credential.aws_profile, credential.file, credential.endpoint, credential.owner, credential.role)
    return (credential.stored, *own, _address(plan, credential.vault))


def _credential_limits(before: Credential, after: Iterable[Credential]) -> Iterator[_Change]:
    """Of several that are the same one, the strictest counts: each is checked."""
    for field in CREDENTIAL_LIMITS:
        old, all_new = getattr(before, field), [getattr(one, field) for one in after]
        is_early = field == "renew_before"
        new = max(all_new) if is_early else min(all_new)
        if (new < old) if is_early else (new > old):
            change = f"{format_duration(new)} instead of {format_duration(old)}"
            yield (field,), change, "Nobody hears of it as early as before."


def _sites(old: Plan, new: Plan) -> Iterator[Weakening]:
    """What 3-2-1 is judged by: where vaults are, and who can destroy what is there."""
    after = {vault.url: vault for vault in new.vaults.values()}
    for name, vault in old.vaults.items():
        if vault.url not in after:  # then the workloads that had it tell
            continue
        now = after[vault.url]
        for field, change in _moved(old.sites.get(vault.site), new.sites.get(now.site)):
            yield Weakening(f"vaults.{name}.site.{field}", change, _JUDGED, (vault.url,))
        if vault.medium != now.medium:
            change = f"{now.medium} instead of {vault.medium}"
            yield Weakening(f"vaults.{name}.medium", change, _JUDGED, (vault.url,))


def _moved(old: Site | None, new: Site | None) -> Iterator[tuple[str, str]]:
    if old is None or new is None:
        return
    for field in ("provider", "account", "region"):
        before, after = getattr(old, field), getattr(new, field)
        if before != after:
            yield field, f"{after} instead of {before}"
    if gone := _missing(old.administrators, new.administrators):
        yield "administrators", f"{gone} cannot destroy what is there any more, it says"


def _missing(before: Iterable[str], after: Iterable[str]) -> str:
    return ", ".join(item for item in before if item not in set(after))
