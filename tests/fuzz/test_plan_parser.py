"""Plan files: whatever is in one, it is a plan or it is told what is wrong, at places of the file."""

from __future__ import annotations

from importlib.resources import files

from donjon.core.errors import DonjonError
from donjon.plan.changes import differences, weakenings
from donjon.plan.load import check, load
from donjon.plan.rules import RULES
from donjon.scheduling.due import History, agenda
from tests.fuzz.fuzzing import changed_text, fuzz

EXAMPLE = files("donjon.plan").joinpath("example.yaml").read_text(encoding="utf-8")
SMALL = """\
version: 1
name: a
sites: {s: {provider: aws, account: "1", region: r}}
vaults: {v: {url: "s3://b", site: s, retention_cap: 1y}}
defaults: &d
  {vault: v, site: s, schedule: {cron: "*/5 0-3,7 * jan-dec 1-5", window: {start: "22:00", end: "01:00"}}}
workloads:
  a: {<<: *d, source: {kind: tree, paths: [/a], exclude: ["*.[a-z]"]}, rpo: 5d, retention: {within: 4w}}
  b: {source: {kind: ebs, tags: {a: b}}, schedule: {every: 1h, jitter: 5m, time_zone: Europe/Berlin}}
"""


def test_plans() -> None:
    original = load(EXAMPLE, "example")

    def parse(text: str) -> None:
        checked = check(text)
        assert checked.plan is not None or checked.errors
        lines = text.splitlines()
        for problem in checked.problems:
            assert problem.rule in RULES
            assert problem.message
            assert 1 <= problem.line <= len(lines) + 1, problem
            assert problem.column >= 1
        if checked.plan is None or checked.errors:
            return
        for now in (0, 1_790_000_000, 4_000_000_000):
            for history in (History(), History(now - 10**6, None, now, 2)):
                agenda(checked.plan, dict.fromkeys(checked.plan.workloads, history), now)
        weakenings(original, checked.plan)
        differences(checked.plan, original)
        assert weakenings(checked.plan, checked.plan) == []

    assert fuzz(parse, changed_text([EXAMPLE, SMALL]))


def test_a_fault_would_be_found() -> None:
    """The seeds are plans, so that what is fuzzed is more than the parser of YAML."""
    for seed in (EXAMPLE, SMALL):
        try:
            load(seed, "seed")
        except DonjonError as error:
            raise AssertionError(error.message) from error
