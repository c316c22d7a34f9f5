"""What the service tells systemd, and the unit that is shipped for it."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from donjon.scheduling.service import notify

UNIT = Path(__file__).resolve().parents[2] / "src/donjon/scheduling/donjon.service"


def test_a_manager_hears_what_it_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(5)
        assert notify({"NOTIFY_SOCKET": str(tmp_path / "notify")}, "READY=1", "STATUS=Running")
        assert manager.recv(100) == b"READY=1\nSTATUS=Running"


def test_a_manager_in_the_abstract_namespace_hears_it_too(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"donjon-test-{tmp_path.name}-{id(manager)}"
        manager.bind("\0" + name)
        manager.settimeout(5)
        assert notify({"NOTIFY_SOCKET": "@" + name}, "WATCHDOG=1")
        assert manager.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize("address", [None, "", "relative", "/nonexistent/socket"])
def test_without_a_manager_nothing_happens(address: str | None) -> None:
    assert not notify({} if address is None else {"NOTIFY_SOCKET": address}, "READY=1")


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that is there, for its checks look for it."""
    path = tmp_path / "donjon.service"
    path.write_text(UNIT.read_text().replace("/usr/bin/donjon", shutil.which("true") or ""))
    return path


def test_systemd_finds_nothing_wrong_with_the_unit(unit: Path) -> None:
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_systemd_finds_little_exposed(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(unit)]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    found = re.search(r"exposure level for donjon\.service: ([\d.]+)", done.stdout)
    assert found is not None
    assert float(found[1]) <= 2.5


def test_stopping_takes_less_than_systemd_waits() -> None:
    text = UNIT.read_text()
    minutes = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)min", text)}
    grace = re.search(r"--grace (\d+)m", text)
    assert grace is not None
    assert int(grace[1]) + 2 < minutes["TimeoutStopSec"]
    assert minutes["WatchdogSec"] >= 2
