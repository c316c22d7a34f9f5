"""What a change weakens: each way of weakening a plan, and changes that do not."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from donjon.plan.changes import addresses, differences, weakenings
from donjon.plan.model import Plan

BASE: dict[str, Any] = {
    "version": 1,
    "name": "shop",
    "credentials": {
        "c": {"aws_profile": "p", "max_age": "90d"},
        "used": {"aws_profile": "used"},
        "d": {},
        "token": {"service": "openbao", "file": "/t", "max_age": "30d"},
        "sas": {"service": "azure-storage", "role": "reader"},
        "host": {"service": "writer", "vault": "second", "max_age": "1y"},
    },
    "sites": {
        "here": {"provider": "aws", "account": "1", "region": "r", "administrators": ["ann"]},
        "there": {"provider": "aws", "account": "2", "region": "r", "administrators": ["bo", "cy"]},
    },
    "vaults": {
        "main": {"url": "s3://main", "site": "there"},
        "second": {"url": "sftp://nas/v", "site": "there", "medium": "disk"},
    },
    "defaults": {
        "site": "here",
        "vault": "main",
        "copies": ["second"],
        "verify": {"every": "7d", "data_percent": 5},
    },
    "workloads": {
        "web": {
            "source": {
                "kind": "tree",
                "paths": ["/srv", "/etc"],
                "exclude": ["*.tmp"],
                "exclude_caches": False,
            },
            "schedule": {"cron": "0 2 * * *", "jitter": "1h"},
            "retention": {"daily": 30, "weekly": 8, "within": "30d"},
            "rpo": "26h",
            "rto": "4h",
            "hooks": {"before": ["a"], "after": ["b"]},
            "limits": {"upload": "20MiB/s"},
        },
        "disks": {
            "source": {"kind": "ebs", "volumes": ["vol-1", "vol-2"], "tags": {"a": "b"}},
            "schedule": {"every": "6h", "window": {"start": "20:00", "end": "08:00"}},
            "snapshots": {"keep": 8, "lock": "1d", "copy_to": ["there"]},
        },
        "db": {"source": {"kind": "postgres", "service": "db"}},
        "dump": {"source": {"kind": "postgres", "service": "db", "mode": "dump", "databases": ["x", "y"]}},
        "images": {"source": {"kind": "bucket", "url": "s3://images", "versions": "all"}},
    },
}
GONE = object()


def with_(*changes: tuple[str, Any]) -> Plan:
    """The plan with values at dotted paths set, or removed."""
    data = copy.deepcopy(BASE)
    for path, value in changes:
        *above, last = path.split("/")
        part = data
        for key in above:
            part = part.setdefault(key, {})
        if value is GONE:
            del part[last]
        else:
            part[last] = value
    return Plan.model_validate(data)


OLD = with_()

WEAKER: list[tuple[str, list[tuple[str, Any]]]] = [
    ("workloads.web", [("workloads/web", GONE)]),
    ("workloads.web.vault", [("workloads/web/vault", "second"), ("workloads/web/copies", [])]),
    ("workloads.web.copies", [("workloads/web/copies", [])]),
    ("workloads.web.vault", [("workloads/web/vault", None), ("workloads/web/copies", ["main", "second"])]),
    ("workloads.web.schedule", [("workloads/web/schedule", GONE)]),
    ("workloads.web.schedule", [("workloads/web/schedule", {"cron": "0 2 * * 1-5", "jitter": "1h"})]),
    ("workloads.web.schedule", [("workloads/web/schedule", {"cron": "0 2 30 2 *"})]),
    ("workloads.web.schedule", [("workloads/web/schedule/jitter", "2h")]),
    ("workloads.disks.schedule", [("workloads/disks/schedule/every", "13h")]),
    ("workloads.disks.schedule", [("workloads/disks/schedule/window", {"start": "22:00", "end": "02:00"})]),
    ("workloads.web.retention.daily", [("workloads/web/retention/daily", 29)]),
    ("workloads.web.retention.weekly", [("workloads/web/retention/weekly", 0)]),
    ("workloads.web.retention.within", [("workloads/web/retention/within", "29d")]),
    ("workloads.db.retention", [("workloads/db/retention", {"yearly": 99})]),
    ("workloads.web.rpo", [("workloads/web/rpo", "27h")]),
    ("workloads.web.rpo", [("workloads/web/rpo", GONE)]),
    ("workloads.web.rto", [("workloads/web/rto", "5h")]),
    ("workloads.web.limits.upload", [("workloads/web/limits/upload", "1KiB/s")]),
    ("workloads.web.limits.requests", [("workloads/web/limits/requests", 1)]),
    ("workloads.db.limits.upload", [("workloads/db/limits", {"upload": "1GiB/s"})]),
    ("workloads.web.verify.every", [("workloads/web/verify", {"every": "8d", "data_percent": 5})]),
    ("workloads.web.verify.data_percent", [("workloads/web/verify", {"every": "7d", "data_percent": 4})]),
    ("workloads.web.verify", [("workloads/web/verify", None)]),
    ("workloads.disks.snapshots", [("workloads/disks/snapshots", GONE)]),
    ("workloads.disks.snapshots.keep", [("workloads/disks/snapshots/keep", 7)]),
    ("workloads.disks.snapshots.lock", [("workloads/disks/snapshots/lock", "23h")]),
    ("workloads.disks.snapshots.lock", [("workloads/disks/snapshots/lock", None)]),
    ("workloads.disks.snapshots.copy_to", [("workloads/disks/snapshots/copy_to", [])]),
    ("workloads.web.source.kind", [("workloads/web/source", {"kind": "block", "devices": ["/dev/x"]})]),
    ("workloads.web.source.paths", [("workloads/web/source/paths", ["/srv"])]),
    ("workloads.web.source.paths", [("workloads/web/source/paths", ["/srv/x", "/etc"])]),
    ("workloads.web.source.exclude", [("workloads/web/source/exclude", ["*.tmp", "/srv"])]),
    ("workloads.web.source.exclude_caches", [("workloads/web/source/exclude_caches", True)]),
    ("workloads.web.source.one_file_system", [("workloads/web/source/one_file_system", True)]),
    ("workloads.disks.source.volumes", [("workloads/disks/source/volumes", ["vol-1"])]),
    ("workloads.disks.source.tags", [("workloads/disks/source/tags", {})]),
    ("workloads.disks.source.tags", [("workloads/disks/source/tags", {"a": "b", "c": "d"})]),
    ("workloads.disks.source.tags", [("workloads/disks/source/tags", {"a": "c"})]),
    ("workloads.db.source.mode", [("workloads/db/source/mode", "dump")]),
    ("workloads.db.source.wal", [("workloads/db/source/wal", False)]),
    ("workloads.db.source.service", [("workloads/db/source/service", "other")]),
    ("workloads.dump.source.databases", [("workloads/dump/source/databases", ["x"])]),
    ("workloads.images.source.url", [("workloads/images/source/url", "s3://images/x")]),
    ("workloads.images.source.versions", [("workloads/images/source/versions", "current")]),
    ("vaults.main.site.account", [("sites/there/account", "3"), ("vaults/second/site", "here")]),
    ("workloads.web.site.account", [("sites/here/account", "9")]),
    ("workloads.web.site.administrators", [("sites/here/administrators", [])]),
    ("workloads.db.site.account", [("workloads/db/site", "there")]),
    ("workloads.db.site", [("workloads/db/site", None)]),
    ("vaults.main.site.administrators", [("sites/there/administrators", ["bo"])]),
    ("vaults.second.medium", [("vaults/second/medium", "tape")]),
    ("credentials.token.max_age", [("credentials/token/max_age", "31d")]),
    ("credentials.token.max_age", [("credentials/token/max_age", GONE)]),
    ("credentials.c.max_age", [("credentials/c/max_age", "91d")]),
    ("credentials.c.max_unused", [("credentials/c/max_unused", "46d")]),
    ("credentials.c.max_overlap", [("credentials/c/max_overlap", "8d")]),
    ("credentials.c.renew_before", [("credentials/c/renew_before", "13d")]),
    ("credentials.c", [("credentials/c", GONE)]),
    ("credentials.used.max_age", [("credentials/used/max_age", "91d")]),
    ("credentials.c", [("credentials/c/aws_profile", "decoy")]),
    ("credentials.c", [("credentials/c", {"google_account": "a"})]),
    ("credentials.token", [("credentials/token/file", "/decoy")]),
    ("credentials.token", [("credentials/token/endpoint", "http://decoy")]),
    ("credentials.sas", [("credentials/sas/role", "reaper")]),
    ("credentials.host", [("credentials/host/vault", "main")]),
]

NOT_WEAKER: list[list[tuple[str, Any]]] = [
    [],
    [("name", "other")],
    [("workloads/new", {"source": {"kind": "tree", "paths": ["/new"]}})],
    [
        ("vaults/primary", {"url": "s3://main", "site": "there"}),
        ("vaults/main", GONE),
        ("defaults/vault", "primary"),
    ],
    [("workloads/web/copies", ["second", "third"]), ("vaults/third", {"url": "gs://x", "site": "here"})],
    [("workloads/web/schedule", {"cron": "0 */6 * * *"})],
    [("workloads/web/schedule/cron", "0 4 * * *")],
    [("workloads/web/schedule/jitter", "0s")],
    [("workloads/web/retention", GONE)],
    [("workloads/web/retention/daily", 31), ("workloads/web/retention/monthly", 1)],
    [("workloads/web/rpo", "25h"), ("workloads/db/rto", "1h")],
    [("workloads/web/hooks", GONE)],
    [("workloads/web/limits", GONE), ("workloads/web/retries", 9), ("workloads/web/tags", ["x"])],
    [("workloads/web/verify", {"every": "1d", "data_percent": 100})],
    [("workloads/disks/snapshots", {"keep": 9, "lock": "2d", "copy_to": ["there", "here"]})],
    [("workloads/web/source/paths", ["/", "/srv", "/etc"]), ("workloads/web/source/exclude", [])],
    [
        ("workloads/disks/source/tags", {"a": "b"}),
        ("workloads/disks/source/volumes", ["vol-1", "vol-2", "vol-3"]),
    ],
    [("workloads/dump/source/databases", [])],
    [("sites/there/administrators", ["bo", "cy", "dee"]), ("sites/there/credential", "c")],
    [("workloads/images/source/inventory", "s3://inventory")],
    [("credentials/token/max_age", "29d"), ("credentials/c/max_unused", "1d"), ("credentials/d", GONE)],
    [("credentials/c/renew_before", "15d"), ("credentials/c/admin_profile", "boss")],
    [("credentials/other", {"aws_profile": "p", "service": "aws"}), ("credentials/c", GONE)],
    [("credentials/used", GONE)],
    [("credentials/used/aws_profile", "other")],
    [("credentials/loose", {"aws_profile": "p", "max_age": "9y"})],  # the strict one is there still
    [
        ("vaults/nas", {"url": "sftp://nas/v", "site": "there", "medium": "disk"}),
        ("vaults/second", GONE),
        ("defaults/copies", ["nas"]),
        ("credentials/host/vault", "nas"),
    ],
    # The same, written elsewhere.
    [("workloads/web/verify", {"every": "7d", "data_percent": 5}), ("workloads/web/copies", ["second"])],
]


@pytest.mark.parametrize(("path", "changes"), WEAKER)
def test_what_is_weaker_is_told_with_what_it_means(path: str, changes: list[tuple[str, Any]]) -> None:
    found = weakenings(OLD, with_(*changes))
    assert path in [one.path for one in found]
    assert all(one.change and one.meaning.endswith(".") for one in found)


@pytest.mark.parametrize("changes", NOT_WEAKER)
def test_what_is_not_weaker_passes(changes: list[tuple[str, Any]]) -> None:
    assert weakenings(OLD, with_(*changes)) == []


@pytest.mark.parametrize("changes", [changes for _, changes in WEAKER])
def test_every_weakening_is_among_the_differences(changes: list[tuple[str, Any]]) -> None:
    assert differences(OLD, with_(*changes))


def test_a_weakening_knows_the_vaults_of_its_workload() -> None:
    new = with_(("workloads/web", GONE), ("vaults/main/url", "s3://theirs"))
    found = {one.path: one.vaults for one in weakenings(OLD, new)}
    assert found["workloads.web"] == addresses(OLD, "web") == ("s3://main", "sftp://nas/v")
    assert found["workloads.db.vault"] == ("s3://main", "sftp://nas/v")


def test_a_looser_check_of_a_writer_key_is_about_its_vault_and_any_other_about_all() -> None:
    looser = with_(("credentials/host/max_age", "2y"), ("credentials/token/max_age", "2y"))
    found = {one.path: one.vaults for one in weakenings(OLD, looser)}
    assert found == {"credentials.host.max_age": ("sftp://nas/v",), "credentials.token.max_age": ()}


def test_a_default_that_is_weaker_weakens_each_workload_that_has_it() -> None:
    found = weakenings(OLD, with_(("defaults/copies", [])))
    assert [one.path for one in found] == [f"workloads.{name}.copies" for name in OLD.workloads]


def test_every_field_of_every_kind_was_thought_of() -> None:
    """A new field of a kind needs a rule, or to be named here as one that narrows nothing."""
    from donjon.plan import narrowing, workloads

    harmless = {"kind", "timeout", "filename", "inventory"}
    first = (workloads.Tree, workloads.Block, workloads.Ebs, workloads.AzureDisk, workloads.GceDisk)
    for model in (*first, workloads.Bucket, workloads.Postgres, workloads.CommandOutput):
        kind = model.model_fields["kind"].annotation.__args__[0]  # type: ignore[union-attr]
        assert set(model.model_fields) - harmless == set(narrowing._RULES[kind]), kind
