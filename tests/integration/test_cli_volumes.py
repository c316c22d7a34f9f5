"""`donjon backup --device` and `donjon restore --to-device`, as a person and a script see them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.integration.cli import Donjon
from tests.integration.volumes import MIB, assert_same, loop_device, mounted, noise, patch, sparse


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    sparse(path, 30 * MIB, {0: noise(1, 3 * MIB), 12 * MIB + 4096: noise(2, 2 * MIB)})
    return path


def test_a_device_is_backed_up_looked_into_and_restored(donjon: Donjon, image: Path, tmp_path: Path) -> None:
    writer = donjon.without_kit()
    with loop_device(image) as device:
        done = writer.json("backup", "--device", device, "--workload", "disk")
        assert (done["files_new"], done["bytes"], done["errors"]) == (1, 30 * MIB, [])
        patch(device, 5 * MIB, b"changed")
        assert writer.json("backup", "--device", device, "--workload", "disk")["bytes_stored"] < 2 * MIB
        path = f"disk@latest:{device}"
        assert donjon.run("dump", path).stdout == device.read_bytes()
    assert "donjon.extent_bytes" in donjon.run("ls", path, "--json").stdout.decode()
    first, second = (point["id"] for point in donjon.json("points")["points"])
    (difference,) = donjon.json("diff", first, second)["changes"]
    assert difference["aspects"] == ["content"]
    donjon.run("verify", "--data", "100")
    done = donjon.json("restore", path, "--to-device", tmp_path / "back.img", "--verify")
    assert (done["bytes"], done["verified"], done["made"]) == (30 * MIB, True, str(tmp_path / "back.img"))
    assert_same(image, tmp_path / "back.img")
    text = donjon.text("restore", "disk@latest", "--to-device", tmp_path / "again.img")
    assert text == f"Restored 30.0 MiB, 7.0 MiB of them data, to {tmp_path / 'again.img'}\n"
    signed = donjon.json("restore", "disk@latest", "--to-device", tmp_path / "timed.img", "--record")[
        "evidence"
    ]
    row = donjon.json("evidence", "show", signed)["rows"][0]
    assert (row["outcome"], str(30 * MIB) in row["seen"]) == ("passed", True)
    again = donjon.run("restore", "disk@latest", "--to-device", tmp_path / "again.img", code=1)
    assert b"is there already" in again.stderr
    assert b"--overwrite always" in again.stderr


def test_a_mounted_device_needs_to_be_asked_for(donjon: Donjon, tmp_path: Path) -> None:
    image = tmp_path / "ext4"
    sparse(image, 16 * MIB, {})
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    with loop_device(image) as device, mounted(device, tmp_path / "mnt"):
        refused = donjon.run("backup", "--device", device, code=1)
        assert b"is mounted for writing" in refused.stderr
        assert b"--even-mounted" in refused.stderr
        donjon.json("backup", "--device", device, "--even-mounted")


def test_changed_blocks_come_from_a_file(donjon: Donjon, image: Path, tmp_path: Path) -> None:
    hints = tmp_path / "hints.json"
    command = ("backup", "--device", image, "--workload", "disk", "--changed-blocks", hints)
    hints.write_text(json.dumps({"version": 1, "generation": "monday"}))
    assert donjon.json(*command)["bytes_read"] == 6 * MIB
    patch(image, 20 * MIB, b"new")
    changed = [{"offset": 20 * MIB, "length": 512}]
    hints.write_text(
        json.dumps({"version": 1, "since": "monday", "generation": "tuesday", "changed": changed})
    )
    assert donjon.json(*command)["bytes_read"] == MIB
    done = donjon.json(*command)  # the same again: the point is of tuesday by now
    assert done["bytes_read"] == 7 * MIB
    assert "was read in full" in done["warnings"][0]
    donjon.json("restore", "disk@latest", "--to-device", tmp_path / "back.img")
    assert_same(image, tmp_path / "back.img")


WRONG: tuple[tuple[str, ...], ...] = (
    ("backup", "--device", "IMAGE", "/etc"),
    ("backup", "--device", "IMAGE", "--stdin", "x"),
    ("backup", "--even-mounted", "/etc"),
    ("backup", "--device", "IMAGE", "--device", "/dev/null", "--changed-blocks", "x"),
    ("backup", "--device", "/dev/null"),
    ("restore", "latest"),
    ("restore", "latest", "/tmp/x", "--to-device", "/tmp/y"),
    ("restore", "latest", "--to-device", "/tmp/y", "--include", "x"),
    ("restore", "latest", "--to", "gopher://x"),
    ("restore", "latest", "--to-device", "/nowhere/x"),
    ("restore", "latest", "--to-device", "/etc"),
    ("restore", "latest", "--to-device", "/tmp/y", "--overwrite", "if-different"),
)


def test_wrong_usage(donjon: Donjon, image: Path) -> None:
    donjon.json("backup", "--device", image)
    for arguments in WRONG:
        donjon.run(*(str(image) if argument == "IMAGE" else argument for argument in arguments), code=2)
    assert not os.path.exists("/tmp/y")


def test_a_point_of_many_files_needs_the_name_of_the_volume(
    donjon: Donjon, image: Path, tmp_path: Path
) -> None:
    donjon.json("backup", "--device", image, "--device", "/proc/self/exe")
    text = donjon.run("restore", "latest", "--to-device", tmp_path / "x", code=1).stderr.decode()
    assert "has several files" in text
    donjon.run("restore", "latest:/nothing", "--to-device", tmp_path / "x", code=1)
    donjon.json("restore", f"latest:{image}", "--to-device", tmp_path / "x")
    assert_same(image, tmp_path / "x")
