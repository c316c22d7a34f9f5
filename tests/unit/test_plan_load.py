"""Plan files as they come: YAML that is wrong in every way, and values as people write them."""

from __future__ import annotations

import time

import pytest

from donjon.core.errors import UsageError
from donjon.plan.load import check, load
from donjon.plan.model import Hooks
from donjon.plan.schema import known_keys, schema
from donjon.plan.syntax import MAX_CHARACTERS, MAX_VALUES, parse
from donjon.plan.workloads import AzureDisk, Tree

PLAN = """\
version: 1
name: shop
sites: {here: {provider: aws, account: 012345678901, region: eu}}
vaults: {main: {url: s3://b, site: here}}
workloads:
  web: {source: {kind: tree, paths: [/srv]}, vault: main}
"""


def problems(text: str) -> list[tuple[int, int, str]]:
    return [(one.line, one.column, one.message) for one in check(text).errors]


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("", (1, 1), "is empty"),
        ("# nothing\n", (1, 1), "is empty"),
        ("a: 1\na: 2\n", (2, 1), "'a' is there twice; it was given in line 1"),
        ("a: {b: 1,\n  c: 2, b: 3}\n", (2, 9), "'b' is there twice; it was given in line 1"),
        ("a: *b\n", (1, 4), "the alias *b stands for nothing above"),
        ("a: &b [*b]\n", (1, 8), "the alias *b is within what it stands for"),
        ("? [a]\n: b\n", (1, 3), "a key has to be a text"),
        ("? {a: b}\n: b\n", (1, 3), "a key has to be a text"),
        ("~: b\n", (1, 1), "a key has to be a text"),
        ("a: !!python/object/apply:os.system [ls]\n", (1, 4), "tags have no use in a plan"),
        ("a: !x b\n", (1, 4), "tags have no use in a plan"),
        ("a: 1\n---\nb: 2\n", (2, 1), "a second document begins here"),
        ("a:\n\t- b\n", (2, 1), "is no YAML: while scanning for the next token, found character"),
        ("a: ]\n", (1, 4), "is no YAML: while parsing a block node"),
        ("a: 1\n b: 2\n", (2, 3), "is no YAML: mapping values are not allowed here"),
        ("a: 1\nb: \x07\n", (2, 4), "is no YAML: a character that no text has"),
        ('a: "\\xzz"\n', (1, 7), "is no YAML: while scanning a double-quoted scalar"),
        ('a: "\\Uffffffff"\n', (1, 1), "is no YAML"),
        ("<<: [1]\n", (1, 5), "<< takes in mappings, and this is none"),
        ("[" * 200, (1, 51), "is nested more than 50 levels deep"),
        ("- " * 200, (1, 101), "is nested more than 50 levels deep"),
        ("x" * (MAX_CHARACTERS + 1), (1, 1), "a plan has at most 1 MiB"),
        ("just text\n", (1, 1), "has to be a mapping"),
        ("- a\n", (1, 1), "has to be a mapping"),
    ],
)
def test_what_is_no_plan_is_told_with_its_place(text: str, place: tuple[int, int], said: str) -> None:
    assert [found[:2] for found in problems(text) if found[2].startswith(said)] == [place]


def test_aliases_do_not_explode() -> None:
    bomb = "a0: &a0 [x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30)
    )
    begun = time.monotonic()
    assert [said for _, _, said in problems(bomb)] == [
        f"has more than {MAX_VALUES} values, with all aliases followed"
    ]
    lines = [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 99)]
    merged = "a0: &a0 {x: 1}\n" + "".join(lines)
    assert "values" in problems(merged)[0][2]
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("part", ["[", "{", "{a: ", "? ", "&a ", "'" * 33])
def test_deep_nesting_takes_no_time(part: str) -> None:
    begun = time.monotonic()
    assert problems(part * 3001)
    assert time.monotonic() - begun < 10


def test_anchors_and_merge_keys_work_and_keep_their_places() -> None:
    text = PLAN.replace("  web: {", "  web: &web {") + (
        "  mail:\n    <<: *web\n    source: {kind: tree, paths: [/mail]}\n    rpo: 3\n"
        "  more: {<<: *web, source: {kind: block, devices: [/dev/x]}, nope: 1}\n"
    )
    assert problems(text) == [
        (10, 10, "'3' is not a duration"),
        (11, 62, "there is no key 'nope' here"),
    ]
    good = load(text.replace("    rpo: 3\n", "").replace(", nope: 1", ""), "x")
    assert good.workloads["mail"].vault == good.workloads["more"].vault == "main"
    assert good.workloads["mail"].source != good.workloads["web"].source
    wrong_base = text.replace("vault: main", "vault: 7!").replace("    rpo: 3\n", "")
    assert (6, 58) in {(line, column) for line, column, _ in problems(wrong_base)}


def test_values_are_what_they_are_written_as() -> None:
    plan = load(PLAN, "x")
    assert plan.sites["here"].account == "012345678901"
    more = "rpo: ' 26h', retries: '3', tags: [1.10, no, 2020-01-01, 0x1f]"
    text = PLAN.replace("vault: main", f"vault: main, {more}")
    text = text.replace("paths: [/srv]", "paths: [/srv], one_file_system: yes, exclude_caches: False")
    web = load(text, "x").workloads["web"]
    assert (web.rpo, web.retries) == (26 * 3600, 3)
    assert web.tags == ("1.10", "no", "2020-01-01", "0x1f")
    assert isinstance(web.source, Tree)
    assert (web.source.one_file_system, web.source.exclude_caches) == (True, False)
    disk = "kind: azure-disk, resource_group: 0, tags: {a: 1, b: ''}"
    azure = PLAN.replace("kind: tree, paths: [/srv]", disk).replace("aws", "azure")
    source = load(azure, "x").workloads["web"].source
    assert isinstance(source, AzureDisk)
    assert (source.resource_group, source.tags) == ("0", {"a": "1", "b": ""})


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("rpo: 5", "'5' is not a duration"),
        ("rpo: -5h", "'-5h' is not a duration"),
        ("rpo: 99999999999999999999999999y", "'99999999999999999999999999y' is more than there can be"),
        ("retention: {daily: }", "has no value"),
        (f"rpo: {'9' * 5000}y", "'99999999999999999999' is larger than anything"),
        (f"limits: {{upload: {'9' * 400}}}", "'99999999999999999999' is larger than anything"),
        ("retries: 1.5", "'1.5' is no number"),
        ("retries: 101", "has to be at most 100"),
        ("retries: []", "'[]' is no number"),
        ("copies: main", "has to be a list"),
        ("copies: {a: b}", "has to be a list"),
        ("schedule: daily", "has to be a mapping"),
        ("schedule: {every: 59s}", "every must be a minute or more"),
        ("schedule: {}", "a schedule has either cron or every"),
        ("schedule: {every: 1h, cron: '* * * * *'}", "a schedule has either cron or every"),
        ("schedule: {cron: '61 * * * *'}", "'61' is no minute: it goes from 0 to 59"),
        ("schedule: {every: 1h, time_zone: Mars/Base}", "'Mars/Base' is no time zone"),
        ("schedule: {every: 1h, time_zone: ../../etc/passwd}", "'../../etc/passwd' is no time zone"),
        ("schedule: {every: 1h, window: {start: '25:00', end: '1:00'}}", "'25:00' is no time of the day"),
        ("schedule: {every: 1h, window: {start: 01:00, end: 01:00}}", "start and end are the same"),
        ("limits: {upload: 0}", "has to be more than 0"),
        ("limits: {upload: fast}", "'fast' is not a size"),
        ("hooks: {before: ls -l}", "has to be a list"),
        ("hooks: {before: []}", "is empty"),
        ("verify: {data_percent: 101}", "has to be at most 100"),
        ("verify: {data_percent: nan}", "'nan' is no number"),
        ("vault: 'a b'", "'a b' cannot be a name"),
        ("snapshots: {keep: 0}", "has to be at least 1"),
    ],
)
def test_values_that_cannot_be_meant_are_told_in_plain_words(value: str, said: str) -> None:
    found = [one for one in check(PLAN.replace("vault: main", value)).errors if one.rule == "bad-value"]
    assert found, value
    assert found[0].message.startswith(said), found[0].message
    assert all("Input should" not in one.message and "pydantic" not in one.message for one in found)


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        ("vault: main", "valt: main", "Did you mean `vault`?"),
        ("paths: [/srv]", "paths: [/srv], exlude: []", "Did you mean `exclude`?"),
        ("provider: aws", "provider: aws, regoin: x", "Did you mean `region`?"),
        ("vault: main", "schedule: {evry: 1h}", "Did you mean `every`?"),
        ("name: shop", "name: shop\nworkload: {}", "Did you mean `workloads`?"),
        ("paths: [/srv]", "paths: [/srv], 'zzzzzz': 1", "Known are exclude, "),
    ],
)
def test_the_nearest_key_is_named(old: str, new: str, hint: str) -> None:
    [found] = [one for one in check(PLAN.replace(old, new)).errors if one.rule == "unknown-key"]
    assert found.hint.startswith(hint)


def test_load_tells_everything_in_one_error_with_the_name_of_the_file() -> None:
    with pytest.raises(UsageError) as raised:
        load(PLAN.replace("vault: main", "vault: nope, rpo: 3, x: 1"), "my.yaml")
    lines = raised.value.message.splitlines()
    assert [line for line in lines if line.startswith("my.yaml:6:")] == [
        "my.yaml:6:53: workloads.web.vault: there is no vault 'nope'",
        "my.yaml:6:64: workloads.web.rpo: '3' is not a duration",
        "my.yaml:6:67: workloads.web.x: there is no key 'x' here",
    ]
    assert "Known are main." in raised.value.message


def test_the_schema_knows_what_the_models_know() -> None:
    made = schema()
    assert made["properties"]["version"]["const"] == 1
    assert known_keys(("workloads", "x", "source", "ebs")) == ["instances", "kind", "tags", "volumes"]
    assert known_keys(("defaults", "schedule", "window")) == ["end", "start"]
    assert "cron" in known_keys(("workloads", "x", "schedule"))
    assert known_keys(("vaults",)) == []
    assert made["$defs"]["Hooks"]["properties"]["timeout"]["default"] == "1m"


def test_places_are_those_of_the_text() -> None:
    root = parse("a:\n  b: [x, yy]\n").root
    assert root is not None
    assert root.find(("a", "b", 1)) == (("a", "b", 1), (2, 10))
    assert root.find(("a", "b"), at_key=True) == (("a", "b"), (2, 3))
    assert root.find(("a", "none", "b", 9)) == (("a", "b"), (2, 6))


def test_the_arguments_of_a_command_stay_as_they_are() -> None:
    hooks = Hooks.model_validate({"before": ["printf", " %s\n"], "after": ["true"]})
    assert hooks.before == ("printf", " %s\n")
