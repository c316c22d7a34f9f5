"""A recovery kit in the hands of several people, with the real command."""

from __future__ import annotations

import os
import pty
import re
import select
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.integration.cli import TIMEOUT_S, Donjon


@pytest.fixture
def folder(donjon: Donjon, tmp_path: Path) -> Path:
    """Shares of the kit: 3 of 5 are needed."""
    folder = tmp_path / "shares"
    made = donjon.json("keys", "split", "--needed", "3", "--shares", "5", "--out", folder, "--html")
    assert [Path(file).name for file in made["files"]] == [f"share-{n}-of-5.txt" for n in range(1, 6)]
    assert len(made["pages"]) == 5
    return folder


def share(folder: Path, number: int) -> Path:
    return folder / f"share-{number}-of-5.txt"


def test_shares_make_the_kit_that_opens_the_vault(donjon: Donjon, folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    joined = tmp_path / "joined.kit"
    chosen = [share(folder, number) for number in (5, 1, 3)]
    made = donjon.without_kit().json("keys", "join", *chosen, "--out", joined)
    assert (made["used"], made["needed"], made["shares"]) == ([1, 3, 5], 3, 5)
    assert joined.read_bytes() == donjon.kit.read_bytes()
    assert stat.S_IMODE(joined.stat().st_mode) == 0o600
    assert donjon.without_kit().json("keys", "check", "--kit", joined)["ok"]
    printed = donjon.json("keys", "print", "--share", share(folder, 2))
    assert printed["text"] == share(folder, 2).read_text()


def test_joining_to_check_writes_nothing(donjon: Donjon, folder: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    chosen = [share(folder, number) for number in (2, 3, 4)]
    made = donjon.without_kit().json("keys", "join", *chosen, "--check")
    assert made["kit"] is None
    assert made["fingerprint"] in donjon.kit.read_text()
    assert sorted(tmp_path.rglob("*")) == before


def test_what_does_not_fit_ends_with_13_and_writes_nothing(
    donjon: Donjon, folder: Path, tmp_path: Path
) -> None:
    one, two, three = (share(folder, number) for number in (1, 2, 3))
    other = tmp_path / "again"
    donjon.run("keys", "split", "--needed", "3", "--shares", "5", "--out", other)
    wrong = tmp_path / "wrong.txt"
    text = three.read_text()
    word = re.search(r"^ 7 (\w+)", text, re.MULTILINE)
    assert word
    wrong.write_text(text.replace(f" 7 {word[1]}", f" 7 {'academic' if word[1] != 'academic' else 'acid'}"))
    cases: list[tuple[list[Path], str]] = [
        ([one, two], "too few shares"),
        ([one, two, two], "twice"),
        ([one, two, share(other, 3)], "another split"),
        ([one, two, wrong], "word 7"),
        ([one, two, donjon.kit], "whole recovery kit"),
        ([one, two, tmp_path / "nowhere"], "there is no share here"),
        ([], "no share was given"),
    ]
    for chosen, said in cases:
        done = donjon.without_kit().run("keys", "join", *chosen, "--out", tmp_path / "kit", code=13)
        assert said in done.stderr.decode()
        assert not (tmp_path / "kit").exists()


def test_neither_shares_nor_kits_are_overwritten(donjon: Donjon, folder: Path, tmp_path: Path) -> None:
    before = {file: file.read_bytes() for file in folder.iterdir()}
    share(folder, 4).unlink()
    donjon.run("keys", "split", "--needed", "3", "--shares", "5", "--out", folder, code=1)
    assert not share(folder, 4).exists()
    assert all(file.read_bytes() == before[file] for file in folder.iterdir())
    chosen = [share(folder, number) for number in (1, 2, 3)]
    donjon.run("keys", "join", *chosen, "--out", donjon.kit, code=1)
    donjon.run("keys", "join", *chosen, code=2)
    donjon.run("keys", "join", *chosen, "--check", "--out", tmp_path / "kit", code=2)
    donjon.run("keys", "split", "--needed", "1", "--shares", "5", "--out", tmp_path / "x", code=2)
    assert not (tmp_path / "x").exists()


def test_a_passphrase_goes_with_the_kit(donjon: Donjon, tmp_path: Path) -> None:
    phrase, folder, joined = tmp_path / "phrase", tmp_path / "shares", tmp_path / "joined.kit"
    phrase.write_text("nine lives and a locked gate\n")
    options = ("--new-passphrase-file", phrase)
    donjon.run("keys", "split", "--needed", "3", "--shares", "5", "--out", folder, *options)
    chosen = [share(folder, number) for number in (1, 2, 3)]
    assert "it has one" in donjon.text("keys", "join", *chosen, "--out", joined)
    bare = donjon.without_kit()
    bare.run("keys", "check", "--kit", joined, code=13)
    assert bare.json("keys", "check", "--kit", joined, "--passphrase-file", phrase)["ok"]
    wrong = tmp_path / "wrong"
    wrong.write_text("something else\n")
    bare.run("keys", "join", *chosen, "--check", "--passphrase-file", wrong, code=13)
    bare.run("keys", "join", *chosen, "--check", "--passphrase-file", phrase)


# --- On a terminal ----------------------------------------------------------------------------------


class Terminal:
    """Somebody who types at a prompt."""

    def __init__(self, donjon: Donjon, *arguments: str | Path) -> None:
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            [*donjon.command(), *arguments],
            env=donjon.environment(),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.said = ""
        self._read = 0

    def wait_for(self, prompt: str) -> None:
        """Until the command asks this, after what was typed last."""
        deadline = time.monotonic() + TIMEOUT_S
        while prompt not in self.said[self._read :]:
            assert time.monotonic() < deadline, self.said
            if select.select([self._ours], [], [], 1)[0]:
                self.said += os.read(self._ours, 4096).decode()
        self._read = self.said.index(prompt, self._read) + len(prompt)

    def types(self, prompt: str, line: str) -> None:
        self.wait_for(prompt)
        os.write(self._ours, line.encode() + b"\n")

    def end(self) -> int:
        """The exit code, once all that it said was read."""
        while True:
            try:
                if not (data := os.read(self._ours, 4096)):
                    break
            except OSError:  # the other side is closed
                break
            self.said += data.decode()
        os.close(self._ours)
        return self._process.wait(TIMEOUT_S)


def words_of(file: Path) -> list[str]:
    block = file.read_text().partition("SHARE WORDS-----\n")[2].partition("-----END")[0]
    return [token for token in block.split() if token.isalpha()]


def lines_of(file: Path) -> list[str]:
    return file.read_text().partition("SEALED KIT-----\n")[2].partition("\n-----END")[0].splitlines()


def test_a_kit_is_typed_from_paper_with_each_mistake_told_at_once(
    donjon: Donjon, folder: Path, tmp_path: Path
) -> None:
    joined = tmp_path / "typed.kit"
    terminal = Terminal(donjon.without_kit(), "keys", "join", "--out", joined)
    lines = lines_of(share(folder, 1))
    for number, line in enumerate(lines, start=1):
        if number == 3:
            terminal.types(f"line {number:02d}: ", line[:-1] + ("A" if line[-1] != "A" else "B"))
            terminal.wait_for("does not match its check characters")
        terminal.types(f"line {number:02d}: ", line.lower())

    one = words_of(share(folder, 4))
    terminal.types("word 1: ", " ".join(one[:10]))
    terminal.types("word 11: ", f"{one[10]} nonsense")
    terminal.wait_for("Word 12 ('nonsense') is no word")
    terminal.types("word 12: ", " ".join(word[:4] for word in one[11:]))
    terminal.wait_for("That is share 4. Good.")
    terminal.types("word 1: ", " ".join(one))
    terminal.wait_for("Share 4 is there already.")

    two = words_of(share(folder, 2))
    mistyped = "academic" if two[20] != "academic" else "acid"
    terminal.types("word 1: ", " ".join([*two[:20], mistyped, *two[21:]]))
    terminal.wait_for(f"word 21 ('{mistyped}') is wrong")
    terminal.types("to correct", "21")
    terminal.types("word 21: ", two[20])
    terminal.wait_for("That is share 2. Good.")

    three = " ".join(f"{place}. {word}" for place, word in enumerate(words_of(share(folder, 5)), start=1))
    terminal.types("word 1: ", three)
    terminal.wait_for("That is share 5. Good.")
    assert terminal.end() == 0, terminal.said
    assert joined.read_bytes() == donjon.kit.read_bytes()


def test_files_and_typing_go_together_and_typing_may_end(
    donjon: Donjon, folder: Path, tmp_path: Path
) -> None:
    joined = tmp_path / "typed.kit"
    files = [share(folder, 1), share(folder, 2)]
    terminal = Terminal(donjon.without_kit(), "keys", "join", *files, "--out", joined)
    terminal.types("word 1: ", " ".join(words_of(share(folder, 3))))
    assert terminal.end() == 0, terminal.said
    assert joined.read_bytes() == donjon.kit.read_bytes()
    terminal = Terminal(donjon.without_kit(), "keys", "join", *files, "--out", tmp_path / "none")
    terminal.types("word 1: ", "\x04")
    assert terminal.end() == 2
    assert not (tmp_path / "none").exists()
