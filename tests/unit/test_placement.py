"""What a copy is worth: the examples of docs/3-2-1.md, and what else decides a cell."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from donjon.plan.copies import (
    Check,
    Copy,
    CopyKind,
    Depth,
    Facts,
    Key,
    LockMode,
    Medium,
    Objectives,
    Place,
    Restore,
    Suspect,
)
from donjon.plan.fate import shared_fate
from donjon.plan.placement import Rule, State, Verdict, judge

NOW = 1_800_000_000
DAY = 86_400
WANTED = Objectives(rpo_s=DAY, rto_s=3600, kept_s=30 * DAY)
HOME = Place("home", "aws", "1", "P", frozenset({"ann"}))
AWAY = Place("away", "aws", "2", "Q", frozenset({"bo"}))
FAR = Place("far", "gcp", "3", "R", frozenset({"cy"}))
KMS_1, KMS_2, KIT = Key("arn:1", "aws:1"), Key("arn:2", "aws:2"), Key("kit 1", "kit 1")
GOOD = Check(NOW - DAY, Depth.DATA, True, "evidence", 5.0)
PRODUCTION = Copy(CopyKind.PRODUCTION, "production", "", HOME, Medium.VOLUME, point_time=NOW - 60)
VAULT = Copy(
    CopyKind.BACKUP,
    "away",
    "s3://away",
    AWAY,
    Medium.OBJECT_STORAGE,
    point="p",
    point_time=NOW - 60,
    locked_until=NOW + 31 * DAY,
    lock_mode=LockMode.COMPLIANCE,
    keys=(KMS_2, KIT),
    checked=GOOD,
)
OTHER = replace(VAULT, name="far", place=FAR)
SNAPSHOT = Copy(
    CopyKind.SNAPSHOT,
    "at home",
    "home",
    HOME,
    Medium.VOLUME,
    point="s",
    point_time=NOW - 120,
    checked=replace(GOOD, at=NOW - 60),
)
LOCKED = replace(SNAPSHOT, locked_until=NOW + 10 * DAY, lock_mode=LockMode.COMPLIANCE)
UNLOCKED = replace(VAULT, lock_mode=LockMode.NONE, locked_until=0)


def at(copy: Copy, **changed: str) -> Copy:
    assert copy.place
    place = replace(copy.place, **changed)  # type: ignore[arg-type]
    return replace(copy, place=place)


def test_suspect_points_are_told_where_a_cell_is_red_for_them() -> None:
    none = replace(VAULT, point="", point_time=None, checked=None, suspect=Suspect(("ab12",), "by eve"))
    verdict = judge(Facts("web", NOW, WANTED, (PRODUCTION, none, OTHER)))
    assert verdict.cell(Rule.RPO).state is State.MET  # the other one is young
    copies = verdict.cell(Rule.COPIES)
    assert (copies.state, copies.value) == (State.NOT_MET, "2")
    assert "backup away has no other points than suspect ones: ab12, marked by eve" in copies.reason
    assert "donjon verdict list" in copies.remedy
    old = replace(none, point="o", point_time=NOW - 3 * DAY)
    verdict = judge(Facts("web", NOW, WANTED, (PRODUCTION, old)))
    assert verdict.cell(Rule.RPO).state is State.NOT_MET
    assert "but for suspect ones: ab12, marked by eve" in verdict.cell(Rule.RPO).reason
    assert "newer points are suspect: ab12" in verdict.cell(Rule.COPIES).reason


#: In the order of the table: the copies beside production.
EXAMPLES: dict[str, tuple[Copy, ...]] = {
    "a snapshot at home, a locked vault elsewhere": (SNAPSHOT, VAULT),
    "a locked vault elsewhere": (VAULT,),
    "two locked vaults elsewhere, in two accounts and regions": (VAULT, OTHER),
    "two locked vaults in two accounts, but one region": (VAULT, at(OTHER, provider="aws", region="Q")),
    "two locked vaults in two accounts and regions, with one administrator": (
        VAULT,
        replace(OTHER, place=replace(FAR, administrators=frozenset({"bo", "cy"}))),
    ),
    "the vault and its copy, in two places, opened by one key alone": (
        replace(VAULT, keys=(KIT,)),
        replace(OTHER, keys=(KIT,)),
    ),
    "a snapshot at home, a locked vault in another region of production's account": (
        SNAPSHOT,
        at(VAULT, account="1"),
    ),
    "a snapshot at home, a locked vault in another account in production's region": (
        SNAPSHOT,
        at(VAULT, region="P"),
    ),
    "a snapshot at home, a locked vault elsewhere, all of whose keys are in production's account": (
        SNAPSHOT,
        replace(VAULT, keys=(KMS_1,)),
    ),
    "a locked snapshot at home, its key in a third account; an unlocked vault elsewhere": (
        replace(LOCKED, keys=(Key("arn:3", "aws:3"),)),
        UNLOCKED,
    ),
    "the same, its key in production's account": (replace(LOCKED, keys=(KMS_1,)), UNLOCKED),
    "a snapshot at home and a copy of it elsewhere": (
        SNAPSHOT,
        replace(SNAPSHOT, name="at away", place=AWAY),
    ),
    "a folder on production's own disk, a locked vault elsewhere": (
        replace(UNLOCKED, name="folder", place=HOME, medium=Medium.VOLUME),
        VAULT,
    ),
    "a locked vault elsewhere, whose newest point is older than twice the RPO, and a snapshot": (
        replace(VAULT, point_time=NOW - 2 * DAY - 1),
        SNAPSHOT,
    ),
}


def verdict(*copies: Copy, wanted: Objectives = WANTED, restore: Restore | None = None) -> Verdict:
    return judge(Facts("web", NOW, wanted, (PRODUCTION, *copies), restore))


def table() -> dict[str, list[str]]:
    text = (Path(__file__).parents[2] / "docs" / "3-2-1.md").read_text()
    examples = text.partition("## Examples")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (yes|no) \| (yes|no) \| (yes|no) \| (yes|no) \|", examples, re.MULTILINE)
    return {row[0]: list(row[1:]) for row in rows}


def test_the_table_of_the_documentation_has_the_examples() -> None:
    assert list(table()) == list(EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_of_the_documentation(example: str) -> None:
    found = verdict(*EXAMPLES[example])
    rules = (Rule.COPIES, Rule.MEDIA, Rule.OFFSITE, Rule.IMMUTABLE)
    assert ["no" if found.cell(rule).is_red else "yes" for rule in rules] == table()[example], found.cells


def test_what_two_copies_share() -> None:
    assert shared_fate(VAULT, OTHER) == ()
    assert shared_fate(replace(VAULT, keys=(KIT,)), replace(OTHER, keys=(KIT,))) == ("the key kit 1",)
    both = replace(VAULT, keys=(KMS_1, Key("arn:9", "aws:1"))), replace(OTHER, keys=(KMS_1,))
    assert shared_fate(*both) == ("keys that aws:1 alone holds",)
    assert "are in the account of backup away" in shared_fate(VAULT, replace(OTHER, keys=(KMS_2,)))[0]
    assert shared_fate(replace(VAULT, storage="s3://b"), replace(OTHER, storage="s3://b")) == (
        "the storage s3://b",
    )
    assert shared_fate(VAULT, replace(OTHER, place=None)) == ("nothing tells where backup far is",)


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (None, "was never verified"),
        (replace(GOOD, at=NOW - 7 * DAY - 1), "was last verified 7 d ago"),
        (replace(GOOD, passed=False), "failed its last verification (evidence,"),
        (replace(GOOD, depth=Depth.STRUCTURE), "only its structure was verified"),
        (replace(GOOD, data_percent=0.5), "0.5 % of the data was read back, and the plan wants 1 %"),
        (replace(GOOD, by_writer=True), "only a writer signed"),
    ],
)
def test_what_counts_as_verified(check: Check | None, said: str) -> None:
    cell = verdict(SNAPSHOT, replace(VAULT, checked=check)).cell(Rule.VERIFIED)
    assert (cell.state, cell.value) == (State.NOT_MET, "1")
    assert said in cell.reason
    assert cell.remedy == "`donjon verify --vault s3://away --kit FILE --data 1 --record --sign AUDITOR`"


def test_structure_is_enough_where_the_plan_wants_no_data() -> None:
    checked = replace(VAULT, checked=replace(GOOD, depth=Depth.STRUCTURE, data_percent=0))
    assert not verdict(SNAPSHOT, checked, wanted=replace(WANTED, data_percent=0)).cell(Rule.VERIFIED).is_red


def test_an_unverified_copy_that_is_not_needed_is_left_out_and_told_of() -> None:
    extra = replace(OTHER, checked=None)
    found = verdict(SNAPSHOT, VAULT, extra)
    assert not any(found.cell(rule).is_red for rule in Rule if rule is not Rule.RTO)
    assert "backup far" not in found.counted
    assert found.copies[-1].verified is not None
    needed = verdict(VAULT, extra)
    assert [cell.rule for cell in needed.cells if cell.is_red] == [Rule.VERIFIED, Rule.RTO]


@pytest.mark.parametrize(
    ("locked_until", "kept_s", "counts"),
    [
        (NOW + 31 * DAY, 0, True),
        (NOW + 29 * DAY, 0, True),  # a backup may take a day
        (NOW + 28 * DAY, 0, False),  # shorter than retention promises, and no custodian was seen
        (NOW + 28 * DAY, 23 * DAY, True),
        (NOW + 22 * DAY, 23 * DAY, False),  # who has not extended it
        (NOW, 23 * DAY, False),
        (0, 0, False),
    ],
)
def test_locks_have_to_last_as_long_as_retention_promises(
    locked_until: int, kept_s: int, counts: bool
) -> None:
    copy = replace(VAULT, locked_until=locked_until, kept_s=kept_s)
    cell = verdict(SNAPSHOT, copy).cell(Rule.IMMUTABLE)
    assert cell.is_red is not counts
    assert counts or "custody extend --vault s3://away" in cell.remedy


@pytest.mark.parametrize("mode", [LockMode.GOVERNANCE, LockMode.ADVISORY, LockMode.NONE])
def test_locks_that_somebody_lifts_do_not_count(mode: LockMode) -> None:
    assert verdict(SNAPSHOT, replace(VAULT, lock_mode=mode)).cell(Rule.IMMUTABLE).is_red


def test_what_cannot_be_seen_is_unknown_and_red() -> None:
    found = verdict(SNAPSHOT, replace(VAULT, unreachable="refused", point_time=None))
    red = {cell.rule: cell.state for cell in found.cells if cell.is_red}
    assert set(red) == {*Rule}
    assert {*red.values()} == {State.UNKNOWN}
    assert not found.is_green


@pytest.mark.parametrize(
    ("restore", "state", "said"),
    [
        (None, State.NOT_MET, "no restore was timed"),
        (Restore(NOW - DAY, 3600.0, "p", "evidence"), State.MET, "took 1 h 00 m"),
        (Restore(NOW - DAY, 3601.0, "p", "evidence"), State.NOT_MET, "took 1 h 00 m"),
        (Restore(NOW - 93 * DAY, 5.0, "p", "evidence"), State.NOT_MET, "more than 92 d ago"),
        (Restore(NOW - DAY, 5.0, "p", "evidence", passed=False), State.NOT_MET, "failed"),
    ],
)
def test_the_time_of_a_restore(restore: Restore | None, state: State, said: str) -> None:
    cell = verdict(SNAPSHOT, VAULT, restore=restore).cell(Rule.RTO)
    assert cell.state is state
    assert said in cell.reason


def test_without_objectives_nothing_is_asked() -> None:
    found = verdict(SNAPSHOT, VAULT, wanted=Objectives())
    assert [found.cell(rule).state for rule in (Rule.RPO, Rule.RTO)] == [State.NOT_ASKED] * 2
    assert found.is_green


def test_a_point_of_the_future_is_none() -> None:
    cell = verdict(SNAPSHOT, replace(VAULT, point_time=NOW + DAY)).cell(Rule.RPO)
    assert (cell.state, cell.value) == (State.NOT_MET, "-")
