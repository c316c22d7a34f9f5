"""Whether a workload selects less than it did."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from donjon.plan.workloads import Workload

#: The field, what changes, and what that means.
Change = tuple[str, str, str]
_LEFT: Final = "What is left out is not backed up any more."
_OTHER: Final = "Something else is backed up under the same name."


def narrowed(old: Workload, new: Workload) -> Iterator[Change]:
    """What of an old workload a new one of the same name does not select."""
    if old.kind != new.kind:
        yield "kind", f"{new.kind} instead of {old.kind}", _OTHER
        return
    for field, rule in _RULES[old.kind].items():
        before, after = getattr(old, field), getattr(new, field)
        if before != after and (change := rule(before, after)):
            meaning = _OTHER if rule is _is_another else _LEFT
            yield field, change, meaning


def _is_another(before: Any, after: Any) -> str:
    return f"{_told(after)} instead of {_told(before)}"


def _has_fewer(before: Any, after: Any) -> str:
    gone = [item for item in before if item not in after]
    return f"without {', '.join(gone)}" if gone else ""


def _has_fewer_of_all(before: Any, after: Any) -> str:
    """Where an empty list means all there are."""
    if not after:
        return ""
    return _has_fewer(before, after) if before else f"only {', '.join(after)}"


def _has_more(before: Any, after: Any) -> str:
    new = [item for item in after if item not in before]
    return f"also {', '.join(new)}" if new else ""


def _asks_more(before: Any, after: Any) -> str:
    """Tags: each that is wanted besides leaves out what has it not."""
    if before and not after:
        return "select nothing any more"
    wanted = [f"{key}={value}" for key, value in after.items() if before.get(key) != value]
    return f"now want {', '.join(wanted)}" if before and wanted else ""


def _only(value: object) -> Callable[[Any, Any], str]:
    """Only a change to this value leaves something out."""
    return lambda before, after: f"{_told(after)} instead of {_told(before)}" if after == value else ""


def _told(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(value)
    return {True: "true", False: "false", None: "none"}.get(value, str(value))  # type: ignore[call-overload,no-any-return]


_RULES: Final[dict[str, dict[str, Callable[[Any, Any], str]]]] = {
    "tree": {
        "paths": _has_fewer,
        "exclude": _has_more,
        "exclude_caches": _only(True),
        "one_file_system": _only(True),
        "snapshot": _only(None),
    },
    "block": {"devices": _has_fewer},
    "ebs": {"volumes": _has_fewer, "instances": _has_fewer, "tags": _asks_more},
    "azure-disk": {"resource_group": _is_another, "disks": _has_fewer, "tags": _asks_more},
    "gce-disk": {"zone": _is_another, "disks": _has_fewer, "labels": _asks_more},
    "bucket": {"url": _is_another, "versions": _only("current")},
    "postgres": {
        "service": _is_another,
        "mode": _only("dump"),
        "databases": _has_fewer_of_all,
        "wal": _only(False),
    },
    "command": {"command": _is_another},
}
