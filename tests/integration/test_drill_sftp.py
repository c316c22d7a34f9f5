"""The attack drill on a vault behind a real SSH server: nothing is locked unless the server sees to it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from donjon.core.events import never_stop
from donjon.drills import sftp
from donjon.drills.base import Report, Role
from donjon.drills.canaries import Canary
from donjon.drills.ground import Ground, attack_store
from donjon.stores.base import Buffer, ObjectInfo
from donjon.stores.immutable import set_immutable
from donjon.stores.sftp import SftpAddress, SftpConnection, SftpStore
from donjon.testing.folders import remove_tree
from donjon.testing.servers.sshd import SshServer, ssh_server
from tests.integration.cli import Donjon

CHANGES = ("delete-version", "overwrite", "truncate", "rename", "replace", "chmod")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with ssh_server(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def connection(server: SshServer) -> Iterator[SftpConnection]:
    address = SftpAddress.parse(server.url(Path("/unused")))
    made = SftpConnection(address, identity=server.identity, known_hosts=server.known_hosts)
    yield made
    made.close()


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "far"
    yield folder
    remove_tree(folder)


def drill(store: SftpStore, role: Role) -> tuple[Report, dict[str, str]]:
    made = iter(range(100))

    def make() -> Canary:
        number = next(made)
        return Canary(f"packs/00/{number:08d}", f"canary {number}".encode())

    attacks, report = sftp.attacks(store), Report()
    ground = Ground(store, make, sftp.ask, is_sure=True)
    rows = attack_store(ground, attacks, role, report, accepted=frozenset(), stop=never_stop)
    return report, {attack.name: row.seen for (attack, _), row in zip(attacks, rows, strict=True)}


@pytest.mark.parametrize("role", [Role.WRITER, Role.ADMINISTRATOR])
def test_whoever_has_the_account_can_do_everything_and_the_drill_says_so(
    server: SshServer, connection: SftpConnection, root: Path, role: Role
) -> None:
    store = SftpStore.create(server.url(root), connection)
    report, seen = drill(store, role)
    assert tuple(report.failed) == CHANGES
    assert "gone" in seen["delete-version"]
    assert "other bytes" in seen["overwrite"]
    assert seen["put"] == seen["list"] == seen["read"] == "allowed"
    assert [path for path in root.rglob("*") if path.is_file()] == []  # all canaries are gone, no .drill
    assert report.leftovers == []


@pytest.mark.skipif(os.geteuid() != 0, reason="the immutable flag takes root")
def test_what_root_on_the_server_makes_immutable_holds(
    server: SshServer, connection: SftpConnection, root: Path
) -> None:
    """As the advice says; no request of SFTP lifts the flag, though the account of this test is root's."""

    class Guarded(SftpStore):
        def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
            info = super().put(name, data, retain_until=retain_until)
            descriptor = os.open(root / name, os.O_RDONLY)
            try:
                set_immutable(descriptor, on=True)
            finally:
                os.close(descriptor)
            return info

    SftpStore.create(server.url(root), connection)
    report, seen = drill(Guarded(server.url(root), connection), Role.WRITER)
    assert report.failed == []
    assert {seen[name] for name in CHANGES} == {"refused"}
    assert "chattr +i" in sftp.ADVICE


def test_a_drill_by_the_command_ends_with_4_and_says_what_to_do(
    server: SshServer, root: Path, host: Donjon, tmp_path: Path
) -> None:
    far = server.url(root)
    (host.folder / ".ssh").mkdir(mode=0o700)
    (host.folder / ".ssh/known_hosts").write_bytes(server.known_hosts.read_bytes())
    environment = {"DONJON_SFTP_IDENTITY": str(server.identity)}
    kits = ("--kit", host.kit, "--second-kit", host.second_kit, "--lock", "none")
    host.run("init", far, *kits, environment=environment)
    (tmp_path / "file").write_text("something")
    host.run("backup", tmp_path / "file", environment=environment)
    done = host.run("drill", "attack", "--as", "administrator", environment=environment, code=4)
    assert b"chattr +i" in done.stdout
    assert b"delete-version, overwrite" in done.stdout
    verified = json.loads(host.run("verify", "--data", "100", "--json", environment=environment).stdout)
    assert (verified["ok"], verified["problems"]) == (True, [])
    kept = json.loads(host.run("evidence", "list", "--json", environment=environment).stdout)["evidence"]
    assert [one["kind"] for one in kept] == ["attack-drill"]
