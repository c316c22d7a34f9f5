"""Whether two workloads select the same thing."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from donjon.plan.model import Plan
from donjon.plan.problems import Finding, Path

#: Fields with names of things that a cloud knows, and the field with tags of them.
_NAMED = {
    "ebs": (("volumes", "instances"), "tags"),
    "azure-disk": (("disks",), "tags"),
    "gce-disk": (("disks",), "labels"),
}


@dataclass(frozen=True, slots=True)
class _Selector:
    """One thing that a workload selects: where the plan says so, and a text to compare."""

    workload: str
    path: Path
    text: str


def overlaps(plan: Plan) -> Iterator[Finding]:
    """Things that are selected twice, or may be."""
    yield from _paths(plan)
    yield from _buckets(plan)
    yield from _databases(plan)
    for kind, (fields, tags) in _NAMED.items():
        yield from _cloud(plan, kind, fields, tags)


def _sources(plan: Plan, *kinds: str) -> dict[str, Any]:
    return {name: one.source for name, one in plan.workloads.items() if one.source.kind in kinds}


def _listed(sources: Mapping[str, Any], *fields: str) -> list[_Selector]:
    return [
        _Selector(name, ("workloads", name, "source", field, number), text)
        for name, source in sources.items()
        for field in fields
        for number, text in enumerate(getattr(source, field, ()))
    ]


def _paths(plan: Plan) -> Iterator[Finding]:
    """Paths of this host, whatever site the plan says."""
    sources = _sources(plan, "tree", "block")
    found = [(one, _normal(one.text)) for one in _listed(sources, "paths", "devices")]
    for inner, outer, path in _nested(found):
        if _is_excluded(path, sources[outer.workload]):
            continue
        if inner.workload == outer.workload:
            yield Finding("path-twice", inner.path, f"{inner.text!r} is within {outer.text!r} already")
        else:
            yield _overlap(inner, outer)


def _nested(found: Iterable[tuple[_Selector, str]]) -> Iterator[tuple[_Selector, _Selector, str]]:
    """Each that is within another one or the same, that other one, and its path."""
    by_path: dict[str, list[_Selector]] = {}
    for one, path in found:
        for other in by_path.setdefault(path, []):
            yield one, other, path
        by_path[path].append(one)
    for path, inside in by_path.items():
        above = path
        while above:
            above = above.rpartition("/")[0]
            for outer in by_path.get(above, ()):
                for inner in inside:
                    yield inner, outer, path


def _normal(path: str) -> str:
    """Without what makes no difference; ``/`` itself is empty."""
    return "".join(f"/{part}" for part in path.split("/") if part not in {"", "."})


def _is_excluded(path: str, source: Any) -> bool:
    """Whether a source that a path is within leaves that out."""
    from pathspec import GitIgnoreSpec

    lines = getattr(source, "exclude", ())
    return bool(lines) and GitIgnoreSpec.from_lines(lines).match_file(path.lstrip("/") + "/")


def _overlap(one: _Selector, other: _Selector) -> Finding:
    message = f"{one.text!r} is selected by {other.workload!r}, too"
    if one.text != other.text:
        message += f", with {other.text!r}"
    return Finding("overlap", one.path, message, needs=other.path)


def _buckets(plan: Plan) -> Iterator[Finding]:
    sources = _sources(plan, "bucket")
    found = [
        (_Selector(name, ("workloads", name, "source", "url"), one.url), one.url.rstrip("/"))
        for name, one in sources.items()
    ]
    for inner, outer, _ in _nested(found):
        yield _overlap(inner, outer)


def _databases(plan: Plan) -> Iterator[Finding]:
    """Two base backups of one server, or two dumps of one database. One of each is nothing that is wrong."""
    for (a, one), (b, other) in itertools.combinations(_sources(plan, "postgres").items(), 2):
        if (one.service, one.mode) != (other.service, other.mode):
            continue
        both = set(one.databases) & set(other.databases) if one.databases and other.databases else None
        if one.mode == "base" or both is None or both:
            told = f"{', '.join(sorted(both))} of " if both and one.mode == "dump" else ""
            message = f"{told}{other.service!r} is selected by {a!r}, too"
            path = ("workloads", b, "source", "service")
            yield Finding("overlap", path, message, needs=("workloads", a, "source"))


def _cloud(plan: Plan, kind: str, fields: tuple[str, ...], tags: str) -> Iterator[Finding]:
    """Volumes and disks by name, and by tags, within one site."""
    sources = _sources(plan, kind)
    for a, b in itertools.combinations(sources, 2):
        one, other = sources[a], sources[b]
        if _scope(plan, a, one) != _scope(plan, b, other):
            continue
        for field in fields:
            for selector in _listed({b: other}, field):
                if selector.text in getattr(one, field):
                    yield _overlap(selector, _Selector(a, ("workloads", a, "source", field), selector.text))
        yield from _tagged(a, b, (one, other), fields, tags)


def _scope(plan: Plan, name: str, source: Any) -> tuple[str | None, str, str]:
    """Where names mean the same."""
    group = getattr(source, "resource_group", "").lower()  # Azure takes no notice of case
    return plan.rules(name).site, group, getattr(source, "zone", "")


def _tagged(a: str, b: str, pair: tuple[Any, Any], fields: tuple[str, ...], tags: str) -> Iterator[Finding]:
    one, other = getattr(pair[0], tags), getattr(pair[1], tags)
    path, needs = ("workloads", b, "source", tags), ("workloads", a, "source", tags)
    has_names = [any(getattr(source, field) for field in fields) for source in pair]
    if one and other:
        if any(one[key] != other[key] for key in one.keys() & other.keys()):
            return  # no volume has both
        if one.items() <= other.items() or other.items() <= one.items():
            yield Finding("overlap", path, f"all that has these is selected by {a!r}, too", needs=needs)
        else:
            yield Finding(
                "may-overlap", path, f"what has these and those of {a!r} is selected twice", needs=needs
            )
    elif (one and has_names[1]) or (other and has_names[0]):
        tagged, named = (a, b) if one else (b, a)
        path = ("workloads", tagged, "source", tags)
        message = f"may select what {named!r} selects by name"
        yield Finding("may-overlap", path, message, needs=("workloads", named, "source"))
