"""What is wrong with credentials: facts, limits and the time in, findings out. Pure."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from donjon.core.clock import SECONDS_PER_DAY
from donjon.credentials.base import Credential


class Severity(enum.IntEnum):
    """How bad a finding is."""

    ADVICE = 1
    WARNING = 2
    CRITICAL = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """In seconds: how old a credential may be, how long unused, how long two of an owner may both work, and
    how long before its end an expiring one is to be renewed.

    90 days are what CIS AWS Foundations Benchmark 3.0 asks for (1.14, access keys rotated every 90 days)
    and 45 days unused (1.12); the others are ours.
    """

    max_age_s: int = 90 * SECONDS_PER_DAY
    max_unused_s: int = 45 * SECONDS_PER_DAY
    max_overlap_s: int = 7 * SECONDS_PER_DAY
    renew_before_s: int = 14 * SECONDS_PER_DAY


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with one credential. ``check`` is a stable name, ``fix`` what to do."""

    check: str
    severity: Severity
    credential: str
    text: str
    fix: str


def find(credentials: Sequence[Credential], limits: Limits, now: int) -> list[Finding]:
    """All findings, the worst first. ``now`` is in Unix seconds."""
    found = [finding for one in credentials for finding in _of_one(one, limits, now)]
    found += _overlaps(credentials, limits, now)
    return worst_first(found)


def worst_first(found: Iterable[Finding]) -> list[Finding]:
    """In the order in which findings are shown."""
    return sorted(found, key=lambda finding: (-finding.severity, finding.credential, finding.check))


def stored_secret(one: Credential) -> Iterator[Finding]:
    """That an identity could stand in its place, if one could."""
    if one.replaceable_by:
        yield Finding(
            "stored-secret", Severity.ADVICE, one.id,
            f"a secret of {one.owner} is stored{f' in {one.stored_in}' if one.stored_in else ''}",
            f"Use {one.replaceable_by} instead, which stores none.",
        )  # fmt: skip


def _of_one(one: Credential, limits: Limits, now: int) -> Iterator[Finding]:
    if one.active:
        yield from _ages(one, limits, now)
        yield from _use(one, limits, now)
        for power in one.powers:
            yield Finding(
                "over-privileged", Severity.CRITICAL, one.id, f"{one.owner} {power}",
                "Give it the policy of its role alone.",
            )  # fmt: skip
        yield from stored_secret(one)
    elif not one.in_use:
        yield Finding(
            "not-retired", Severity.ADVICE, one.id, f"{one.id} is switched off and still there",
            "Run `donjon credentials retire` once nothing misses it.",
        )  # fmt: skip
    if one.in_use and not one.active:
        yield Finding(
            "disabled-in-use", Severity.CRITICAL, one.id,
            f"{one.stored_in} holds {one.id}, which is switched off",
            "Switch it on again, then run `donjon credentials rotate`.",
        )  # fmt: skip


def _ages(one: Credential, limits: Limits, now: int) -> Iterator[Finding]:
    if one.expires_at is not None and now >= one.expires_at:
        yield Finding(
            "expired", Severity.CRITICAL if one.in_use else Severity.ADVICE, one.id,
            f"{one.id} has expired", "Run `donjon credentials rotate`, or remove it.",
        )  # fmt: skip
        return
    if one.expires_at is not None and one.expires_at - now < limits.renew_before_s:
        yield Finding(
            "expires-soon", Severity.WARNING, one.id, f"{one.id} expires in {days(one.expires_at - now)}",
            "Run `donjon credentials rotate`.",
        )  # fmt: skip
    if one.created_at is None:
        yield Finding(
            "unknown-age", Severity.WARNING, one.id, f"nobody tells how old {one.id} is",
            "Run `donjon credentials rotate`; the new one has a date.",
        )  # fmt: skip
    elif now - one.created_at > limits.max_age_s:
        text = f"{one.id} is {days(now - one.created_at)} old, allowed are {days(limits.max_age_s)}"
        yield Finding("over-age", Severity.WARNING, one.id, text, "Run `donjon credentials rotate`.")


def _use(one: Credential, limits: Limits, now: int) -> Iterator[Finding]:
    if not one.use_is_known or one.created_at is None:
        return
    idle_s = now - (one.last_used_at if one.last_used_at is not None else one.created_at)
    if idle_s <= limits.max_unused_s:
        return
    check, text = "unused", f"{one.id} was not used for {days(idle_s)}"
    if one.last_used_at is None:
        check, text = "never-used", f"{one.id} was never used since it was made {days(idle_s)} ago"
    yield Finding(check, Severity.WARNING, one.id, text, "Remove it, if nothing needs it.")


def _overlaps(credentials: Iterable[Credential], limits: Limits, now: int) -> Iterator[Finding]:
    """Credentials that have been replaced too long ago to work still."""
    owners: dict[tuple[str, str], list[Credential]] = {}
    for one in credentials:
        if one.active and one.created_at is not None:
            owners.setdefault((one.kind, one.owner), []).append(one)
    for several in owners.values():
        ordered = sorted(several, key=lambda one: (one.created_at or 0, one.id))
        for old, new in itertools.pairwise(ordered):
            overlap_s = now - (new.created_at or 0)
            if overlap_s > limits.max_overlap_s:
                text = f"{old.id} still works {days(overlap_s)} after {new.id} was made"
                yield Finding("overlap", Severity.WARNING, old.id, text, "Run `donjon credentials retire`.")


def days(seconds: int) -> str:
    """A time in words; a part of a day does not count."""
    count = seconds // SECONDS_PER_DAY
    return f"{count} day{'' if count == 1 else 's'}"
