"""`donjon snapshots` as people use it: against EC2 (moto and a front of ours), and on real btrfs."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from donjon.app.snapshots import at_site, has_snapshots, places, volumes_of
from donjon.cli import main
from donjon.clouds import aws
from donjon.core.errors import CredentialsRejected, DonjonError, UsageError
from donjon.plan.model import Plan
from donjon.testing.aws.ec2_front import Ec2Front, ec2_front
from donjon.testing.aws.moto import moto
from donjon.testing.aws.people import User
from donjon.testing.servers.btrfs import btrfs, make_subvolume
from tests.integration.cli import Donjon

HOME, AWAY = "us-east-1", "eu-west-1"
ACCOUNT = "123456789012"  # moto's
KEY = f"arn:aws:kms:{AWAY}:{ACCOUNT}:key/00000000-0000-0000-0000-000000000001"
SOMEBODY = User("somebody", "AKIAEXAMPLE", "a-secret-of-a-test")
SITES: dict[str, Any] = {
    "prod": {"provider": "aws", "account": ACCOUNT, "region": HOME},
    "backup": {"provider": "aws", "account": ACCOUNT, "region": AWAY, "snapshot_key": KEY},
    "azure": {"provider": "azure", "account": "s", "region": "westeurope", "snapshot_key": "des"},
    "gcp": {"provider": "gcp", "account": "p", "region": "europe-west1"},
    "cellar": {"provider": "on-premises", "account": "firm", "region": "cellar"},
    "vaults": {"provider": "on-premises", "account": "others", "region": "elsewhere"},
}


def _plan(workloads: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": 1,
        "name": "test",
        "sites": SITES,
        "vaults": {"main": {"url": "file:///nowhere", "site": "vaults"}},
        "defaults": {"vault": "main", "verify": {"every": "7d"}},
        "workloads": workloads,
    }


@dataclass(frozen=True)
class Host(Donjon):
    """A host that finds EC2 as the SDK does, by its own variables."""

    variables: tuple[tuple[str, str], ...] = ()

    def environment(self) -> dict[str, str]:
        return super().environment() | dict(self.variables)

    def with_plan(self, workloads: dict[str, Any]) -> Host:
        path = self.folder / "donjon.yaml"
        path.write_text(json.dumps(_plan(workloads)))  # JSON is YAML
        return dataclasses.replace(self, variables=(*self.variables, ("DONJON_PLAN", str(path))))

    def on(self, *arguments: str, code: int = 0) -> Any:
        return self.json("snapshots", *arguments, code=code)


#: One for all commands of this file, as it takes a second to read what EC2 is.
_session = functools.cache(aws._session)


@dataclass
class Cloud:
    """What the commands work on; they run in this process, for speed."""

    host: Host
    front: Ec2Front
    volumes: list[str]
    name: str
    capsys: pytest.CaptureFixture[str]

    def run(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        """What a command prints, and its errors."""
        got = main.run(["snapshots", *arguments])
        shown = self.capsys.readouterr()
        assert got == code, shown
        assert "Traceback" not in shown.err
        return shown.out, shown.err

    def on(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code)[0])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ec2Front, str, Any]]:
    with moto(tmp_path_factory.mktemp("moto")) as url, ec2_front(url) as (front, address):
        yield front, address, SOMEBODY.client("ec2", address, HOME)


@pytest.fixture
def cloud(
    server: tuple[Ec2Front, str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Cloud]:
    front, address, client = server
    name = os.urandom(4).hex()
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "app", "Value": name}]}]
    volumes = [
        client.create_volume(Size=1, AvailabilityZone=f"{HOME}a", TagSpecifications=tags)["VolumeId"]
        for _ in range(2)
    ]
    variables = SOMEBODY.environment | {"AWS_ENDPOINT_URL_EC2": address}
    rules = {"site": "prod", "snapshots": {"keep": 2, "lock": "1d"}}
    host = Host(tmp_path, variables=tuple(variables.items())).with_plan(
        {name: {"source": {"kind": "ebs", "tags": {"app": name}}, **rules}}
    )
    for key, value in host.environment().items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(aws, "_session", _session)
    yield Cloud(host, front, sorted(volumes), name, capsys)
    front.denied.clear()
    front.known.clear()


def test_snapshots_are_taken_listed_locked_and_deleted(cloud: Cloud) -> None:
    name = cloud.name
    first = cloud.on("create", name)
    assert sorted(one["volume"] for one in first["snapshots"]) == cloud.volumes
    assert {one["state"] for one in first["snapshots"]} == {"complete"}
    assert first["moments"] == 2
    time.sleep(1.1)  # providers tell when sets were taken in whole seconds
    second = cloud.on("create", name)
    listed = cloud.on("list")
    assert {one["set"] for one in listed["snapshots"]} == {first["set"], second["set"]}
    assert listed["last_good"] == {name: {"prod": second["set"]}}
    assert "last good" in cloud.run("delete", name, second["set"], code=1)[1]
    locked = cloud.on("lock", name, first["set"], "--for", "10d")
    assert all(one["locked_until"] for one in locked["snapshots"])
    kept = cloud.on("delete", name, first["set"], code=1)
    assert kept["deleted"] == []
    assert len(kept["kept"]) == 2
    cloud.front.known.clear()  # the locks are gone
    gone = cloud.on("delete", name, first["set"])
    assert {one["snapshot"] for one in gone["deleted"]} == {one["snapshot"] for one in first["snapshots"]}
    assert [one["set"] for one in cloud.on("list", name)["snapshots"]] == [second["set"]] * 2
    text = cloud.run("list", name)[0]
    assert "last good" in text
    assert "2 of 2 volumes" in text


def test_what_is_too_many_goes_and_a_dry_run_deletes_nothing(cloud: Cloud) -> None:
    name = cloud.name
    made = [cloud.on("create", name)["set"] for _ in range(3)]
    would = cloud.on("delete", name, "--expired", "--dry-run")
    assert would["dry_run"]
    assert {one["set"] for one in would["deleted"]} <= set(made)
    assert len({one["set"] for one in cloud.on("list", name)["snapshots"]}) == 3
    gone = cloud.on("delete", name, "--expired")
    assert gone["deleted"] == would["deleted"]
    assert len({one["set"] for one in cloud.on("list", name)["snapshots"]}) == 2
    assert cloud.on("delete", name, "--expired")["deleted"] == []


def test_the_newest_good_set_is_locked_as_the_plan_says(cloud: Cloud) -> None:
    name = cloud.name
    made = cloud.on("create", name)
    locked = cloud.on("lock", name)
    assert locked["set"] == made["set"]
    assert len(locked["snapshots"]) == 2


def test_a_missing_permission_is_named_on_one_line(cloud: Cloud) -> None:
    name = cloud.name
    for action, command in (("DescribeSnapshots", ["list"]), ("CreateSnapshot", ["create", name])):
        cloud.front.denied = {f"ec2:{action}"}
        _, told = cloud.run(*command, code=11)
        assert f"no permission ec2:{action}" in told
        assert told.count("\n") == 2
    cloud.front.denied = set()
    assert json.loads(cloud.host.run("snapshots", "list", "--json").stdout)["snapshots"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["list", "nobody"], 2, "no workload 'nobody'"),
        (["list", "--site", "cellar"], 2, "no snapshots at a site 'cellar'"),
        (["delete", "NAME"], 2, "not clear"),
        (["delete", "NAME", "s1", "--expired"], 2, "not clear"),
        (["delete", "NAME", "no-such-set"], 1, "there is no set"),
        (["lock", "NAME"], 1, "no whole set"),
        (["lock", "NAME", "--for", "forever"], 2, "not a duration"),
    ],
)
def test_what_makes_no_sense_is_told(cloud: Cloud, arguments: list[str], code: int, text: str) -> None:
    named = [cloud.name if one == "NAME" else one for one in arguments]
    assert text in cloud.run(*named, code=code)[1]


def test_nothing_is_done_without_a_plan(tmp_path: Path) -> None:
    done = Host(tmp_path).run("snapshots", "list", code=2)
    assert b"there is no plan" in done.stderr


def test_trees_on_btrfs_have_snapshots_and_plain_ones_have_none(tmp_path: Path) -> None:
    with btrfs(tmp_path) as disk:
        make_subvolume(disk / "home")
        source = {"kind": "tree", "paths": [str(disk / "home")]}
        host = Host(tmp_path).with_plan(
            {
                "home": {"source": source | {"snapshot": "btrfs"}, "site": "cellar"},
                "plain": {"source": {"kind": "tree", "paths": ["/etc"]}, "site": "cellar"},
            }
        )
        made = host.on("create", "home")
        assert made["moments"] == 1
        (one,) = made["snapshots"]
        assert Path(one["snapshot"]).is_dir()
        assert (one["account"], one["region"], one["site"]) == ("firm", "cellar", "cellar")
        assert [found["snapshot"] for found in host.on("list")["snapshots"]] == [one["snapshot"]]
        done = host.run("snapshots", "create", "plain", code=2)
        assert b"no snapshots are taken" in done.stderr
        done = host.run("snapshots", "lock", "home", "--for", "1d", code=1)
        assert b"btrfs has no locks" in done.stderr


def _workload(source: dict[str, Any], **rules: Any) -> Plan:
    return Plan.model_validate(_plan({"w": {"source": source, **rules}}))


EBS = {"kind": "ebs", "volumes": ["vol-1"]}
AZURE = {"kind": "azure-disk", "resource_group": "rg", "disks": ["d"]}
GCE = {"kind": "gce-disk", "zone": "europe-west1-b", "disks": ["d"]}


def test_copies_are_made_where_the_plan_says_with_the_key_of_that_site(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in SOMEBODY.environment.items():
        monkeypatch.setenv(name, value)
    plan = _workload(EBS, site="prod", snapshots={"copy_to": ["backup"]})
    found = places(plan, "w")
    assert [(place.site, place.snapshots.region) for place in found] == [("prod", HOME), ("backup", AWAY)]
    assert {place.snapshots.account for place in found} == {ACCOUNT}
    azure = _workload(AZURE, site="azure")
    assert [place.snapshots.region for place in places(azure, "w")] == ["westeurope"]


def test_a_site_of_another_provider_or_none_is_refused() -> None:
    for source in (EBS, AZURE, GCE):
        with pytest.raises(UsageError, match="is of on-premises") as caught:
            places(_workload(source, site="cellar"), "w")
        assert caught.value.hint
        with pytest.raises(UsageError, match="needs a site"):
            places(_workload(source), "w")


def test_google_without_a_credential_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with pytest.raises(CredentialsRejected) as caught:
        places(_workload(GCE, site="gcp"), "w")
    assert "gcloud auth" in caught.value.hint


def test_kinds_without_snapshots_say_so() -> None:
    plan = _workload({"kind": "bucket", "url": "s3://b/p"}, site="prod")
    source = plan.workloads["w"].source
    assert not has_snapshots(source)
    with pytest.raises(UsageError):
        at_site(source, plan, "prod")
    with pytest.raises(DonjonError):
        volumes_of(source, None)  # type: ignore[arg-type]
