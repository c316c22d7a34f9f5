"""Lint against plain models of what it finds: paths in paths, how long points stay, what a change weakens."""

from __future__ import annotations

import copy
import itertools
from pathlib import PurePosixPath
from typing import Any

from hypothesis import event, given, settings
from hypothesis import strategies as st

from donjon.plan.changes import differences, weakenings
from donjon.plan.lint import lint
from donjon.plan.lint_times import horizon
from donjon.plan.model import Plan
from donjon.plan.retention import Candidate, Policy, decide
from donjon.plan.rules import RULES

HOUR, DAY = 3600, 86_400
PATHS = st.lists(st.sampled_from("ab"), max_size=4).map(lambda parts: "/" + "/".join(parts))


def plan(workloads: dict[str, Any], **more: Any) -> Plan:
    return Plan.model_validate(
        {
            "version": 1,
            "name": "p",
            "sites": {
                "s": {"provider": "aws", "account": "1", "region": "r"},
                "u": {"provider": "aws", "account": "2", "region": "r"},
            },
            "vaults": {"v": {"url": "s3://v", "site": "s"}, "w": {"url": "s3://w", "site": "s"}},
            "workloads": workloads,
            **more,
        }
    )


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(PATHS, min_size=1, max_size=3), min_size=1, max_size=5))
def test_paths_overlap_if_one_is_within_another_one(chosen: list[list[str]]) -> None:
    sources = {f"w{n}": {"source": {"kind": "tree", "paths": paths}} for n, paths in enumerate(chosen)}
    found = [one for one in lint(plan(sources)) if one.rule in {"overlap", "path-twice"}]
    every = [(name, path) for name, one in sources.items() for path in one["source"]["paths"]]
    wanted = {"overlap": 0, "path-twice": 0}
    for (a, one), (b, other) in itertools.combinations(every, 2):
        if PurePosixPath(one).is_relative_to(other) or PurePosixPath(other).is_relative_to(one):
            wanted["path-twice" if a == b else "overlap"] += 1
    assert {rule: sum(one.rule == rule for one in found) for rule in wanted} == wanted


@settings(max_examples=100, deadline=None)
@given(
    st.builds(
        Policy,
        last=st.integers(0, 5),
        hourly=st.integers(0, 5),
        daily=st.integers(0, 5),
        weekly=st.integers(0, 4),
        monthly=st.integers(0, 2),
        yearly=st.integers(0, 1),
        within_s=st.integers(0, 10).map(lambda days: days * DAY),
    ),
    st.sampled_from((HOUR, 5 * HOUR, DAY, 3 * DAY, 10 * DAY)),
    st.integers(0, 40),
)
def test_no_point_stays_longer_than_lint_says(policy: Policy, gap: int, phase: int) -> None:
    """The model: points at every start, and retention that decides after each."""
    stays = horizon(policy, gap)
    if stays is None:
        assert policy.keeps_all
        return
    begin = 1_700_000_000 + phase * 7 * HOUR
    count = min(1500, 2 * stays // gap + 3)
    points = [Candidate(bytes([1]), b"w", n, begin + n * gap) for n in range(count)]
    now = points[-1].time
    kept = [one.candidate.time for one in decide(policy, points, now) if one.stays]
    assert now - min(kept, default=now) <= stays


RULES_OF_A_WORKLOAD = st.fixed_dictionaries(
    {},
    optional={
        "vault": st.sampled_from(("v", "w", "x", None)),
        "copies": st.lists(st.sampled_from(("v", "w", "x")), max_size=3),
        "site": st.sampled_from(("s", "t", "u", None)),
        "schedule": st.sampled_from(
            (
                None,
                {"cron": "0 2 * * *"},
                {"cron": "0 2 30 2 *"},
                {"every": "1h", "jitter": "2h"},
                {"cron": "0 9 * * 1-5", "window": {"start": "22:00", "end": "06:00"}},
            )
        ),
        "retention": st.sampled_from((None, {}, {"daily": 3}, {"last": 9, "yearly": 2})),
        "rpo": st.sampled_from((None, "1h", "1d", "9d")),
        "verify": st.sampled_from((None, {"every": "1d"}, {"every": "90d", "data_percent": 0})),
        "snapshots": st.sampled_from((None, {"keep": 1, "lock": "9d", "copy_to": ["s"]}, {"lock": "1h"})),
        "hooks": st.sampled_from((None, {}, {"before": ["a"]}, {"after": ["a"], "timeout": "2d"})),
        "limits": st.sampled_from((None, {"upload": "1MiB/s"}, {"requests": 5})),
    },
)
SOURCES = st.sampled_from(
    (
        {"kind": "tree", "paths": ["/a", "/a/b"]},
        {"kind": "tree", "paths": ["/"], "exclude": ["/a"], "snapshot": "btrfs"},
        {"kind": "block", "devices": ["/dev/a"]},
        {"kind": "ebs", "volumes": ["v1"], "tags": {"a": "b"}},
        {"kind": "ebs", "tags": {"c": "d"}},
        {"kind": "azure-disk", "resource_group": "g", "disks": ["d"]},
        {"kind": "gce-disk", "zone": "z", "labels": {"a": "b"}},
        {"kind": "bucket", "url": "s3://v/x"},
        {"kind": "bucket", "url": "nothing"},
        {"kind": "postgres", "service": "db", "mode": "dump"},
        {"kind": "command", "command": ["x"], "filename": "y"},
    )
)


@st.composite
def plan_data(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from("abc"), min_size=1, unique=True))
    workloads = {name: {"source": draw(SOURCES), **draw(RULES_OF_A_WORKLOAD)} for name in names}
    return {"workloads": workloads, "defaults": draw(RULES_OF_A_WORKLOAD)}


def plans() -> st.SearchStrategy[Plan]:
    return plan_data().map(lambda data: plan(**data))


@st.composite
def steps(draw: st.DrawFn) -> list[Plan]:
    """A plan, and what it becomes by changing a rule or two at a time."""
    data = draw(plan_data())
    found = [plan(**data)]
    for _ in range(2):
        data = copy.deepcopy(data)
        for _ in range(draw(st.integers(1, 2))):
            parts = [data["defaults"], *data["workloads"].values()]
            part = draw(st.sampled_from(parts))
            part.update(draw(RULES_OF_A_WORKLOAD))
            if part is not data["defaults"]:
                part["source"] = draw(st.one_of(st.just(part["source"]), SOURCES))
        found.append(plan(**data))
    return found


@settings(max_examples=200, deadline=None)
@given(plans())
def test_lint_never_fails_and_names_places_that_there_are(found: Plan) -> None:
    data = found.model_dump(exclude_unset=True)
    for one in lint(found):
        assert one.rule in RULES
        part: Any = data
        for key in one.path:
            part = part[key]


@settings(max_examples=300, deadline=None)
@given(steps())
def test_weakening_cannot_be_hidden_in_steps(found: list[Plan]) -> None:
    """Nothing weakens itself; and two steps that weaken nothing are together none that weakens."""
    first, second, third = found
    assert weakenings(first, first) == []
    assert bool(weakenings(first, second)) <= bool(differences(first, second))
    if not weakenings(first, second) and not weakenings(second, third):
        event("neither step weakens")
        assert weakenings(first, third) == []
