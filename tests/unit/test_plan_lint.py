"""Every rule of lint, by a plan that breaks just that rule, and one beside it that does not."""

from __future__ import annotations

import pytest
from ruamel.yaml import YAML

from donjon.plan.load import check
from donjon.plan.rules import RULES

GOOD = """\
version: 1
name: shop
credentials:
  admin: {aws_profile: admin}
sites:
  here: {provider: aws, account: "1", region: r, administrators: [ann], credential: admin}
  there: {provider: aws, account: "2", region: r, administrators: [bo]}
  third: {provider: on-premises, account: a, region: b, administrators: [cy]}
vaults:
  main: {url: "s3://main", site: there, retention_cap: 90d}
  second: {url: "sftp://nas/vault", site: third}
defaults:
  site: here
  vault: main
  copies: [second]
  schedule: {cron: "0 2 * * *"}
  retention: {daily: 30}
  verify: {every: 7d}
  rpo: 26h
workloads:
  web:
    source: {kind: tree, paths: [/srv]}
"""


def changed(*changes: str) -> str:
    """The good plan with lines replaced: ``old -> new``; ``+ line`` adds one at the end."""
    text = GOOD
    for change in changes:
        if change.startswith("+ "):
            text += change[2:] + "\n"
            continue
        old, _, new = change.partition(" -> ")
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def web(*rules: str) -> tuple[str, ...]:
    """More rules of the workload."""
    return tuple(f"+     {rule}" for rule in rules)


def other(source: str, *rules: str) -> tuple[str, ...]:
    """One more workload."""
    return ("+   other:", f"+     source: {source}", *web(*rules))


def source(text: str) -> str:
    """The workload is something else."""
    return "{kind: tree, paths: [/srv]} -> " + text


#: One more credential.
ADMIN = "  admin: {{aws_profile: admin}} ->   admin: {{aws_profile: admin}}\n  {}"
EBS = source("{kind: ebs, volumes: [vol-1]}")
PG = "{kind: postgres, service: db%s}"

#: (the rule, its place, what is changed)
BROKEN: list[tuple[str, str, tuple[str, ...]]] = [
    ("yaml", "", ("name: shop -> name: 'shop",)),
    ("yaml", "", ("+   web: {source: {kind: block, devices: [/dev/x]}}",)),
    ("unknown-key", "vaults.second.sit", ('vault", site: third -> vault", site: third, sit: x',)),
    ("missing", "name", ("name: shop -> nam: x",)),
    ("bad-value", "workloads.web.source.paths[0]", ("[/srv] -> [srv]",)),
    ("bad-value", "workloads.web.source.paths[0]", ("[/srv] -> [/srv/../etc]",)),
    ("bad-value", "workloads.web.source.exclude[1]", ("[/srv]} -> [/srv], exclude: [a, '[z-a]']}",)),
    ("bad-value", "workloads.web.snapshots.lock", (EBS, *web("snapshots: {lock: 12h}"))),
    ("unknown-vault", "workloads.web.vault", web("vault: nope")),
    ("unknown-vault", "defaults.copies[1]", ("[second] -> [second, nope]",)),
    ("unknown-site", "vaults.main.site", ("site: there -> site: nope",)),
    ("unknown-site", "defaults.site", ("  site: here ->   site: nope",)),
    ("unknown-site", "workloads.web.snapshots.copy_to[0]", (EBS, *web("snapshots: {copy_to: [nope]}"))),
    ("unknown-credential", "sites.there.credential", ("[bo] -> [bo], credential: nope",)),
    ("unknown-credential", "vaults.main.credential", ("cap: 90d -> cap: 90d, credential: nope",)),
    ("wrong-credential", "sites.here.credential", ("aws_profile: admin -> google_account: admin",)),
    ("wrong-credential", "vaults.second.credential", ("site: third -> site: third, credential: admin",)),
    ("wrong-credential", "sites.here.credential", ("aws_profile: admin -> service: google",)),
    (
        "wrong-credential",
        "vaults.second.credential",
        ("sftp://nas/vault -> gs://nas", "site: third -> site: third, credential: admin"),
    ),
    ("unknown-vault", "credentials.host.vault", (ADMIN.format("host: {service: writer, vault: nope}"),)),
    ("bad-value", "credentials.x", (ADMIN.format("x: {service: writer}"),)),
    ("bad-value", "credentials.x", (ADMIN.format("x: {service: azure}"),)),
    ("bad-value", "credentials.x", (ADMIN.format("x: {service: aws}"),)),
    ("bad-value", "credentials.x", (ADMIN.format("x: {service: openbao, aws_profile: p}"),)),
    ("bad-value", "credentials.x", (ADMIN.format("x: {service: openbao, role: reader}"),)),
    ("bad-value", "credentials.x", (ADMIN.format("x: {google_account: a, file: /x}"),)),
    ("bad-value", "credentials.x.file", (ADMIN.format("x: {service: openbao, file: token}"),)),
    ("bad-value", "credentials.x.endpoint", (ADMIN.format("x: {service: openbao, endpoint: bao}"),)),
    ("bad-value", "credentials.x.service", (ADMIN.format("x: {service: s3}"),)),
    ("bad-value", "credentials.x.max_age", (ADMIN.format("x: {max_age: old}"),)),
    ("bad-url", "vaults.second.url", ("sftp://nas -> ftp://nas",)),
    ("bad-url", "vaults.second.url", ("sftp://nas -> sftp://[nas",)),
    ("bad-url", "vaults.second.url", ("sftp://nas -> sftp://nas:99999",)),
    ("bad-url", "workloads.web.source.url", (source("{kind: bucket, url: /srv}"),)),
    ("bad-url", "workloads.web.source.url", (source("{kind: bucket, url: 's3://[b'}"),)),
    ("same-url", "vaults.second.url", ("sftp://nas/vault -> s3://main/",)),
    ("no-vault", "workloads.web", web("vault: null", "copies: []")),
    ("copies-without-vault", "defaults.copies", web("vault: null")),
    ("snapshots-only", "workloads.web", (EBS, *web("vault: null", "copies: []", "snapshots: {keep: 3}"))),
    ("copy-to-itself", "workloads.web.copies[1]", web("copies: [second, main]")),
    ("copy-to-itself", "workloads.web.copies[1]", web("copies: [second, second]")),
    ("never-due", "defaults.schedule.cron", ("0 2 * * * -> 0 2 30 2 *",)),
    (
        "outside-window",
        "workloads.web.schedule.cron",
        web("schedule: {cron: 0 12 * * *, window: {start: '22:00', end: '06:00'}}"),
    ),
    (
        "outside-window",
        "workloads.web.schedule.cron",
        web("schedule: {cron: 0 6 * * *, window: {start: '22:00', end: '06:00'}}"),
    ),
    ("jitter", "workloads.web.schedule.jitter", web("schedule: {every: 1h, jitter: 1h}")),
    ("rpo", "defaults.rpo", ("rpo: 26h -> rpo: 23h",)),
    ("rpo", "defaults.rpo", web("schedule: {every: 27h}")),
    ("rpo", "defaults.rpo", web("schedule: {cron: 0 2 * * 1-5}")),
    ("rpo", "defaults.rpo", web("schedule: {cron: 0 2 * * *, jitter: 3h}")),
    (
        "rpo",
        "workloads.web.rpo",
        web("rpo: 2h", "schedule: {every: 1h, window: {start: '22:00', end: '06:00'}}"),
    ),
    ("rpo-tight", "workloads.web.rpo", web("rpo: 1d")),
    ("rpo-unscheduled", "defaults.rpo", web("schedule: null")),
    ("retention-cap", "workloads.web.retention", web("retention: {daily: 91}")),
    ("retention-cap", "workloads.web.retention", web("retention: {weekly: 13}")),
    ("retention-cap", "workloads.web.retention", web("retention: {monthly: 3}")),
    ("retention-cap", "workloads.web.retention", web("retention: {yearly: 1}")),
    ("retention-cap", "workloads.web.retention", web("retention: {last: 91}")),
    ("retention-cap", "workloads.web.retention", web("retention: {within: 91d}")),
    ("retention-cap", "workloads.web.retention", web("retention: {hourly: 91}")),  # as there is one a day
    ("retention-cap", "defaults.retention", ("site: third -> site: third, retention_cap: 29d",)),
    ("retention-endless", "workloads.web.retention", web("retention: {}")),
    ("verify", "workloads.web", web("verify: null")),
    ("verify-late", "workloads.web.verify.every", web("verify: {every: 31d}")),
    ("snapshot-lock", "workloads.web.snapshots.lock", (EBS, *web("snapshots: {keep: 3, lock: 4d}"))),
    (
        "snapshot-gap",
        "workloads.web.snapshots.lock",
        (EBS, *web("snapshots: {lock: 1d}", "rpo: 9d", "schedule: {every: 7d}", "retention: {last: 3}")),
    ),
    ("no-snapshots", "workloads.web.snapshots", web("snapshots: {keep: 3}")),
    (
        "no-lock",
        "workloads.web.snapshots.lock",
        ("[/srv]} -> [/srv], snapshot: btrfs}", *web("snapshots: {lock: 2d}")),
    ),
    ("snapshot-copy", "workloads.web.snapshots.copy_to[0]", (EBS, *web("snapshots: {copy_to: [here]}"))),
    ("snapshot-copy", "workloads.web.snapshots.copy_to[0]", (EBS, *web("snapshots: {copy_to: [third]}"))),
    ("wrong-provider", "defaults.site", (source("{kind: azure-disk, resource_group: g, disks: [d]}"),)),
    ("wrong-provider", "workloads.web.site", (EBS, *web("site: third"))),
    ("wrong-provider", "defaults.site", (source("{kind: bucket, url: 'gs://b'}"),)),
    ("no-site", "workloads.web", web("site: null")),
    ("shares-fate", "defaults.vault", ('account: "2" -> account: "1"', *web("copies: []"))),
    ("shares-fate", "workloads.web.vault", (*web("vault: second", "copies: []", "site: third"),)),
    ("shares-fate", "defaults.vault", ("[bo] -> [ann]", "[cy] -> [ann, cy]")),
    ("overlap", "workloads.other.source.paths[0]", other("{kind: tree, paths: [/srv/www/]}")),
    ("overlap", "workloads.other.source.paths[0]", other("{kind: tree, paths: [//srv/.]}")),
    ("overlap", "workloads.web.source.paths[0]", other("{kind: tree, paths: [/]}")),
    ("overlap", "workloads.other.source.devices[0]", other("{kind: block, devices: [/srv/image]}")),
    (
        "overlap",
        "workloads.other.source.url",
        (source("{kind: bucket, url: 's3://b'}"), *other("{kind: bucket, url: 's3://b/x'}")),
    ),
    ("overlap", "workloads.other.source.volumes[0]", (EBS, *other("{kind: ebs, volumes: [vol-1]}"))),
    (
        "overlap",
        "workloads.other.source.tags",
        (source("{kind: ebs, tags: {a: b}}"), *other("{kind: ebs, tags: {a: b, c: d}}")),
    ),
    ("overlap", "workloads.other.source.service", (source(PG % ""), *other(PG % ""))),
    (
        "overlap",
        "workloads.other.source.service",
        (source(PG % ", mode: dump"), *other(PG % ", mode: dump, databases: [x]")),
    ),
    (
        "may-overlap",
        "workloads.web.source.tags",
        (source("{kind: ebs, tags: {a: b}}"), *other("{kind: ebs, volumes: [vol-1]}")),
    ),
    (
        "may-overlap",
        "workloads.other.source.tags",
        (source("{kind: ebs, tags: {a: b}}"), *other("{kind: ebs, tags: {c: d}}")),
    ),
    ("path-twice", "workloads.web.source.paths[1]", ("[/srv] -> [/srv, /srv/x]",)),
    ("backs-up-vault", "workloads.web.source.url", (source("{kind: bucket, url: 's3://main/'}"),)),
    ("hooks-empty", "workloads.web.hooks", web("hooks: {timeout: 5s}")),
    ("hooks-unreleased", "workloads.web.hooks", web("hooks: {before: [a]}")),
    ("hooks-long", "workloads.web.hooks.timeout", web("hooks: {after: [a], timeout: 24h}")),
    ("unused", "vaults.second", ("[second] -> []",)),
    ("unused", "credentials.admin", ("[ann], credential: admin -> [ann]",)),
]

FINE = [
    (),
    (ADMIN.format("token: {service: openbao, file: /t, max_age: 30d}"),),
    (ADMIN.format("host: {service: writer, vault: main, max_age: 1y}"),),
    ("sftp://nas/vault -> s3://nas/vault", "site: third -> site: third, credential: admin"),
    ("aws_profile: admin -> aws_profile: admin, google_account: a, owner: ann, max_age: 30d",),
    ("[bo] -> [bo], credential: plain", ADMIN.format("plain: {max_age: 30d}")),
    web("schedule: {cron: 0 12 * * *, window: {start: '06:00', end: '22:00'}}"),
    web("schedule: {cron: 0 23 * * *, window: {start: '22:00', end: '06:00'}}"),
    web("retention: {daily: 90}"),
    web("rpo: 25h"),
    ("[/srv]} -> [/srv], exclude: [/srv/www]}", *other("{kind: tree, paths: [/srv/www/x]}")),
    ("[/srv]} -> [/srv], exclude: ['*.log', 'www']}", *other("{kind: tree, paths: [/srv/www]}")),
    other("{kind: tree, paths: [/srv2]}"),
    (source("{kind: bucket, url: 's3://b/x'}"), *other("{kind: bucket, url: 's3://b/xy'}")),
    (source("{kind: ebs, tags: {a: b}}"), *other("{kind: ebs, tags: {a: c}}")),
    (EBS, *other("{kind: ebs, volumes: [vol-1]}", "site: there")),
    (source(PG % ""), *other(PG % ", mode: dump")),
    (source(PG % ", mode: dump, databases: [x]"), *other(PG % ", mode: dump, databases: [y]")),
    (EBS, *web("snapshots: {keep: 3, lock: 2d, copy_to: [there]}")),
    ('account: "2" -> account: "1"',),  # the second vault is elsewhere
    ("rpo: 26h -> rpo: 26h\n  snapshots: {keep: 2}",),  # defaults need not fit every workload
    web("hooks: {before: [a], after: [b]}"),
    web("hooks: {after: [b]}"),
]


@pytest.mark.parametrize(("rule", "place", "changes"), BROKEN)
def test_what_is_wrong_is_told_where_it_is_and_nothing_else(
    rule: str, place: str, changes: tuple[str, ...]
) -> None:
    text = changed(*changes)
    found = [problem for problem in check(text).problems if problem.rule != "unused" or rule == "unused"]
    assert [problem.rule for problem in found if problem.rule != "unknown-key" or rule != "missing"] == [rule]
    [problem] = [problem for problem in found if problem.rule == rule]
    assert problem.path == ("" if rule == "missing" else place)
    assert problem.hint, problem
    line = [*text.splitlines(), ""][problem.line - 1]  # perhaps the end of the file
    assert 1 <= problem.column <= len(line) + 1
    last = problem.path.rpartition(".")[2].partition("[")[0]
    assert last in line or not last, (last, line)


@pytest.mark.parametrize("changes", FINE)
def test_what_is_right_is_not_told(changes: tuple[str, ...]) -> None:
    checked = check(changed(*changes))
    assert [problem for problem in checked.problems if problem.rule != "unused"] == []
    assert checked.plan is not None


def test_every_rule_is_broken_once() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(RULES)


def test_what_is_wrong_is_told_all_at_once() -> None:
    """One unknown key, one bad value and one broken rule of each kind, in one file."""
    text = changed(
        "cap: 90d -> cap: 9d, cpa: 3",  # unknown key, retention beyond the cap
        "account: a -> account: []",  # bad value
        "0 2 * * * -> 0 2 31 2 *",  # never
        "[second] -> [nope]",  # unknown vault
        *other("{kind: tree, paths: [/srv/x]}", "rpo: 1h", "schedule: {every: 2h}", "retries: many"),
        "+   third: {source: {kind: nothing}, vault: never}",
    )
    found = {(problem.rule, problem.path) for problem in check(text).errors}
    assert found == {
        ("unknown-key", "vaults.main.cpa"),
        ("retention-cap", "defaults.retention"),
        ("bad-value", "sites.third.account"),
        ("never-due", "defaults.schedule.cron"),
        ("unknown-vault", "defaults.copies[0]"),
        ("overlap", "workloads.other.source.paths[0]"),
        ("rpo", "workloads.other.rpo"),
        ("bad-value", "workloads.other.retries"),
        ("bad-value", "workloads.third.source.kind"),
        ("unknown-vault", "workloads.third.vault"),
    }


def test_the_good_plan_means_what_it_says() -> None:
    plain = YAML(typ="safe", pure=True).load(GOOD)
    plan = check(GOOD).plan
    assert plan is not None
    assert plan.vaults["main"].retention_cap == 90 * 86_400
    assert list(plan.workloads) == list(plain["workloads"])
    assert plan.rules("web").copies == ("second",)


def test_a_plan_of_a_thousand_workloads_is_checked_in_seconds() -> None:
    more = [f"+   w{number}: {{source: {{kind: tree, paths: [/data/{number}]}}}}" for number in range(1000)]
    assert check(changed(*more)).errors == ()
