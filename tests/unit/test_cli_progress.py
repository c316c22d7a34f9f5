"""The lines that a log gets about long work."""

from __future__ import annotations

import pytest

from donjon.cli.output import Colour, Output, _Lines

GIB = 1 << 30


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_log_gets_a_line_a_minute_with_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = _Lines(Output(), "Backing up", clock)
    lines.total(items=1000, size_bytes=10 * GIB)
    for second in range(150):
        clock.now = 100.0 + second
        lines.advance(items=1, size_bytes=GIB // 60, current="/srv/a\nb")
    assert capsys.readouterr().err.splitlines() == [
        r"donjon: Backing up: 61 of 1000 items  1.0 GiB of 10.0 GiB  17.4 MiB/s  8 m 50 s left  /srv/a\x0ab",
        r"donjon: Backing up: 121 of 1000 items  2.0 GiB of 10.0 GiB  17.2 MiB/s  7 m 55 s left  /srv/a\x0ab",
    ]


def test_more_than_was_expected_is_no_less_than_all(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = _Lines(Output(), "Restoring", clock)
    lines.total(items=10)
    clock.now += 60
    lines.advance(items=20)
    assert capsys.readouterr().err == "donjon: Restoring: 20 of 20 items  0 B  0 B/s  0.0 s left\n"


def test_scripts_that_read_json_get_no_lines_about_progress(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = _Lines(Output(json=True), "Backing up", clock)
    clock.now += 120
    lines.advance(items=20)
    lines.note("/srv/x: Permission denied")
    assert capsys.readouterr().err == "donjon: /srv/x: Permission denied\n"


def test_colours_are_for_terminals_and_no_text_can_bring_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = [("3 ok", Colour.GREEN), ("  \x1b[31mred\nline  ", None)]
    Output().painted(line)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    Output().painted(line)
    monkeypatch.setenv("NO_COLOR", "1")
    Output().painted(line)
    Output(json=True).painted(line)
    plain = r"3 ok  \x1b[31mred\x0aline"
    assert capsys.readouterr().out.splitlines() == [plain, f"\x1b[32m3 ok\x1b[0m{plain[4:]}", plain]
