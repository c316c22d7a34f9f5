"""What a newcomer types first works as it is written, in its order, on a host that knows nothing yet."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from donjon.testing.folders import remove_tree
from donjon.testing.trees import compare_trees

ROOT = Path(__file__).resolve().parents[2]
DONJON = [sys.executable, "-m", "donjon"]
TIMEOUT_S = 60
INIT = "donjon init /srv/vault --kit /media/usb/vault.kit --second-kit /media/usb2/second.kit"
_FOREIGN = re.compile(r"(?<![\w.])/(?=(srv|media|etc|home|tmp|mnt)\b)")


class Newcomer:
    """Somebody at a shell, whose `/` is a folder of the test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.variables = {name: value for name, value in os.environ.items() if name[:7] != "DONJON_"}
        self.variables["DONJON_HOME"] = str(root / "config")

    def types(self, line: str, *, code: int = 0) -> str:
        """What the command says. It has to end with ``code``, and without a complaint if that is 0."""
        words = shlex.split(_FOREIGN.sub(f"{self.root}/", line), comments=True)
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            self.variables[name] = value
            return ""
        assert words[0] == "donjon", line
        done = subprocess.run(
            [*DONJON, *words[1:]],
            cwd=self.root,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert bool(done.stderr) == bool(code), line
        return done.stdout + done.stderr

    def with_own_id(self, line: str) -> str:
        """The line with the id of a point that there is instead of the one in the example."""
        if "3f9a1c" not in line:
            return line
        point: str = json.loads(self.types("donjon points --json"))["points"][0]["id"]
        return line.replace("3f9a1c", point[:6])


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    for folder in ("srv", "media/usb", "media/usb2", "etc/ssh", "home/ann", "tmp"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc/ssh/sshd.conf").write_text("PermitRootLogin no\n")
    (tmp_path / "home/ann/letter").write_text("Dear all\n")
    (tmp_path / "home/ann/draft.tmp").write_text("Dear\n")
    yield Newcomer(tmp_path)
    remove_tree(tmp_path)


def readme_lines() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Use it")[2]
    block = re.search(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert block
    return [line for line in block[1].splitlines() if line.startswith(("donjon ", "export "))]


def test_the_commands_of_the_readme_work_as_written(newcomer: Newcomer) -> None:
    said: dict[str, list[str]] = {}
    for line in readme_lines():
        if " mount " in line:  # stays until it is interrupted
            continue
        said.setdefault(line.split()[1], []).append(newcomer.types(newcomer.with_own_id(line)))
    assert len(said) >= 10
    assert "2 new" in said["backup"][0]  # the draft is left out
    assert ["(sealed)" in text for text in said["points"]] == [True, False]
    assert said["find"] == [text for text in said["find"] if "sshd.conf" in text]
    assert "Sound: " in said["verify"][0]
    assert compare_trees(*(os.fsencode(newcomer.root / name) for name in ("etc/ssh", "tmp/ssh"))) == []


def test_what_init_says_is_meant_for_people(newcomer: Newcomer) -> None:
    said = newcomer.types(f"{INIT} --lock 90d")
    assert "90 d" in said
    assert "h 00 m" not in said


def test_verify_with_a_key_does_not_claim_that_there_was_none(newcomer: Newcomer) -> None:
    newcomer.types(INIT)
    assert "no key given" in newcomer.types("donjon verify")
    assert "no key given" not in newcomer.types("donjon verify --kit /media/usb/vault.kit")


def test_a_backup_tells_how_long_it_took_in_parts_of_a_second(newcomer: Newcomer) -> None:
    newcomer.types(INIT)
    took = json.loads(newcomer.types("donjon backup /etc --json"))["duration_s"]
    assert 0 < took < TIMEOUT_S
    assert took != int(took)


def test_a_protected_kit_says_how_to_give_its_passphrase(newcomer: Newcomer) -> None:
    (newcomer.root / "phrase").write_text("six words or more, all random\n")
    newcomer.types("donjon init /srv/vault --kit vault.kit --second-kit b.kit --passphrase-file phrase")
    newcomer.types("donjon backup /etc")
    assert "--passphrase-file FILE" in newcomer.types(
        "donjon restore latest /tmp/all --kit vault.kit", code=13
    )
    newcomer.types("donjon restore latest /tmp/all --kit vault.kit --passphrase-file phrase")
