"""`donjon status` after `donjon plan run`: production on btrfs, its snapshot, and a vault in a bucket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from donjon.testing.aws.seaweedfs import SeaweedFs
from donjon.testing.folders import remove_tree
from donjon.testing.servers.btrfs import btrfs, delete_subvolume, make_subvolume
from tests.integration.cli import Donjon
from tests.integration.engine import fill

_PLAN = """\
version: 1
name: shop
sites:
  office: {provider: on-premises, account: example.com, region: Berlin, administrators: [ann]}
  backup: {provider: aws, account: "444455556666", region: eu-west-1, administrators: [security]}
vaults:
  main: {url: "MAIN", site: backup}
workloads:
  website:
    site: office
    vault: main
    source: {kind: tree, paths: [SOURCE], snapshot: btrfs}
    snapshots: {keep: 1}
    verify: {every: 7d, data_percent: 100}
    rpo: 1d
"""


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with btrfs(tmp_path_factory.mktemp("btrfs")) as place:
        yield place


@pytest.fixture
def host(tmp_path: Path, disk: Path, s3_server: SeaweedFs) -> Iterator[Donjon]:
    """A host whose plan was run once, with the credential of an auditor for what it verifies."""
    folder = tmp_path / "host"
    folder.mkdir()
    host = Donjon(folder)
    volume = disk / "web"
    make_subvolume(volume)
    fill(volume / "www", 10, 1, size_bytes=20_000)
    url = s3_server.url(f"plan{s3_server.make_bucket()}")
    (folder / "donjon.yaml").write_text(_PLAN.replace("MAIN", url).replace("SOURCE", str(volume / "www")))
    try:
        kits = ("--kit", host.kit, "--second-kit", host.second_kit)
        host.run("init", url, *kits, "--lock", "30d", "--create")
        host.run("auditor", "add", "eve", "--out", folder / "eve.auditor")
        signs = {"DONJON_AUDITOR": str(folder / "eve.auditor")}
        host.run("plan", "run", "website", "--plan", folder / "donjon.yaml", environment=signs)
        yield host
    finally:
        remove_tree(folder)


def _cells(host: Donjon, code: int) -> dict[str, Any]:
    """Without any key: the catalog knows."""
    bare = host.without_kit()
    data = bare.json("status", "--plan", host.folder / "donjon.yaml", code=code)["workloads"][0]
    return {cell["rule"]: cell for cell in data["cells"]} | {"copies_seen": data["copies"]}


def test_a_snapshot_counts_while_it_is_there(host: Donjon, disk: Path) -> None:
    cells = _cells(host, 0)
    assert cells["copies"]["reason"] == "production, snapshot at office, backup main"
    assert cells["media"]["reason"] == "object-storage, volume"
    assert cells["rto"]["state"] == "not-asked"
    snapshot = cells["copies_seen"][1]
    assert (snapshot["account"], snapshot["region"]) == ("example.com", "Berlin")
    assert "the account on-premises:example.com" in snapshot["why_not"]["not_offsite"]
    assert snapshot["verified"]["source"] == "the backup that was read from it"
    (there,) = (path for path in (disk / "web" / ".donjon-snapshots").glob("*/*") if path.is_dir())
    delete_subvolume(there)
    cells = _cells(host, 4)
    assert {rule for rule, cell in cells.items() if rule != "copies_seen" and cell["remedy"]} == {"copies"}
    assert "snapshot at office holds nothing of website" in cells["copies"]["reason"]
    done = host.without_kit().run("status", "--plan", host.folder / "donjon.yaml", code=4).stdout.decode()
    assert "\nwebsite: copies: snapshot at office holds nothing of website" in done
    assert "\n  To do: `donjon plan run website`" in done
