"""Names and first bytes of PostgreSQL's log, what is missing of it, and how base backups are unpacked."""

from __future__ import annotations

import io
import os
import struct
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from donjon.core.errors import IntegrityFailure, Refused, UsageError
from donjon.core.events import Silent, never_stop
from donjon.recovery.postgres import (
    Goal,
    parse_goal_time,
    parse_lsn,
    prepare_directory,
    quoted,
    read_label,
    unpack,
    write_goal,
)
from donjon.recovery.postgres_wal import (
    MOST_MISSING,
    WalKind,
    check_segment,
    parse_control,
    parse_label,
    parse_name,
    reaches,
    segment_name,
    timelines,
)

SEGMENT = 1 << 24
LABEL = b"""START WAL LOCATION: 0/2000028 (file 000000010000000000000002)
CHECKPOINT LOCATION: 0/2000060
BACKUP METHOD: streamed
BACKUP FROM: primary
START TIME: 2026-11-26 06:00:00 UTC
LABEL: donjon
START TIMELINE: 1
"""


HEADER = struct.Struct("=HHIQI4xQII")


def header(
    number: int, *, timeline: int = 1, size: int = SEGMENT, info: int = 2, magic: int = 0xD110
) -> bytes:
    return HEADER.pack(magic, info, timeline, number * size, 0, 7, size, 8192)


@given(
    st.integers(1, 0xFFFFFFFF),
    st.integers(0, (1 << 40) - 1),
    st.sampled_from([1 << 20, 1 << 24, 1 << 30]),
)
def test_names_of_segments_tell_their_number(timeline: int, place: int, size: int) -> None:
    number = place % ((1 << 64) // size)
    name = parse_name(segment_name(timeline, number, size))
    assert (name.kind, name.timeline, name.number(size)) == (WalKind.SEGMENT, timeline, number)


def test_names_tell_what_a_file_is() -> None:
    start = "00000002000000A3000000FF"
    assert parse_name(start).kind is WalKind.SEGMENT
    assert parse_name(f"{start}.partial").kind is WalKind.PARTIAL
    assert parse_name(f"{start}.00000028.backup").kind is WalKind.BACKUP
    assert parse_name("00000002.history").kind is WalKind.HISTORY
    assert parse_name("00000002.history").timeline == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "../000000010000000000000001",
        "00000001000000000000000",
        "00000001000000000000000g",
        "000000010000000000000001\n",
        "000000010000000000000001.history",
        "000000010000000000000001.partial.backup",
        "00000001000000000000000\uff11",
    ],
)
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_name(text)


def test_a_segment_has_to_be_what_its_name_says() -> None:
    name = parse_name("000000020000000000000005")
    assert check_segment(name, header(5, timeline=2), SEGMENT).system == 7
    # The first of a new timeline begins with a copy of pages of the old one.
    assert check_segment(name, header(5, timeline=1), SEGMENT).segment_bytes == SEGMENT
    wrong = {
        "another number": (header(6), SEGMENT),
        "a later timeline": (header(5, timeline=3), SEGMENT),
        "cut short": (header(5), SEGMENT - 1),
        "another size": (header(5, size=1 << 20), SEGMENT),
        "no segment": (b"x" * 40, SEGMENT),
        "a short page header": (header(5, info=0), SEGMENT),
        "another magic": (header(5, magic=0x1234), SEGMENT),
        "too short": (header(5)[:39], SEGMENT),
        "of no size": (header(5, size=0), 0),
    }
    for data, size in wrong.values():
        with pytest.raises(IntegrityFailure):
            check_segment(name, data, size)


@given(st.binary(max_size=60))
def test_hostile_beginnings_raise_nothing_else(data: bytes) -> None:
    name = parse_name("000000020000000000000005")
    for check in (
        lambda: check_segment(name, data, SEGMENT),
        lambda: parse_label(data),
        lambda: read_label(iter([data])),
        lambda: parse_control(data[:7]),
    ):
        with pytest.raises(IntegrityFailure):
            check()


def test_a_label_tells_where_recovery_begins() -> None:
    label = parse_label(LABEL)
    assert (label.segment, label.timeline) == ("000000010000000000000002", 1)


def test_gaps_are_told_by_name() -> None:
    names = [segment_name(1, number, SEGMENT) for number in (254, 255, 257, 260)]
    (one,) = timelines(map(parse_name, names), SEGMENT)
    assert [segment_name(1, number, SEGMENT) for number in one.missing] == [
        "000000010000000100000000", "000000010000000100000002", "000000010000000100000003",
    ]  # fmt: skip
    assert (one.first, one.last, one.count, one.has_history) == (254, 260, 4, True)


def test_a_name_far_away_makes_no_endless_list() -> None:
    names = [segment_name(1, 1, SEGMENT), "00000001FFFFFFFF000000FF"]
    (one,) = timelines(map(parse_name, names), SEGMENT)
    assert len(one.missing) == MOST_MISSING


def test_a_timeline_without_its_history_is_told() -> None:
    names = [segment_name(2, 5, SEGMENT)]
    assert not timelines(map(parse_name, names), SEGMENT)[0].has_history
    assert timelines(map(parse_name, [*names, "00000002.history"]), SEGMENT)[0].has_history


@given(
    st.sets(st.integers(0, 30), min_size=1), st.sets(st.integers(0, 30)), st.integers(0, 30), st.booleans()
)
def test_reach_agrees_with_going_step_by_step(
    first: set[int], second: set[int], start: int, has_second: bool
) -> None:
    names = [segment_name(1, number, SEGMENT) for number in first]
    if has_second:
        names += [segment_name(2, number, SEGMENT) for number in second]
    found = reaches(timelines(map(parse_name, names), SEGMENT), 1, start)
    if start not in first:
        assert found is None
        return
    end = start
    while end + 1 in first:
        end += 1
    expected = (1, end)
    if has_second and second and start <= min(second) <= end + 1:
        end = min(second)
        while end + 1 in second:
            end += 1
        expected = (2, end)
    assert found == expected


# -- base backups ----------------------------------------------------------------------------------


def tar_of(*members: tuple[str, bytes | None], kind: bytes | None = None, target: str = "") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            if data is None:
                info.type = kind or tarfile.DIRTYPE
                info.linkname = target
            else:
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data or b""))
    return out.getvalue()


def pieces(data: bytes, size: int = 1000) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def test_a_base_backup_is_unpacked(tmp_path: Path) -> None:
    big = os.urandom(3_000_000)
    data = tar_of(("backup_label", LABEL), ("base", None), ("base/1", None), ("base/1/1259", big), ("x", b""))
    target = tmp_path / "data"
    prepare_directory(target)
    label = unpack(pieces(data), target, Silent(), never_stop)
    assert label.segment == "000000010000000000000002"
    assert (target / "base/1/1259").read_bytes() == big
    assert (target / "x").read_bytes() == b""
    assert {path.stat().st_mode & 0o777 for path in target.rglob("*") if path.is_file()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (target, target / "base")} == {0o700}
    assert read_label(pieces(data)).segment == label.segment


@pytest.mark.parametrize("name", ["../outside", "/outside", "base/../../outside", "a//b"])
def test_nothing_is_written_outside(tmp_path: Path, name: str) -> None:
    target = tmp_path / "data"
    prepare_directory(target)
    with pytest.raises(IntegrityFailure):
        unpack([tar_of(("backup_label", LABEL), (name, b"bad"))], target, Silent(), never_stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    target = tmp_path / "data"
    prepare_directory(target)
    data = tar_of(("backup_label", LABEL), ("link", None), kind=kind, target="/etc")
    with pytest.raises(IntegrityFailure):
        unpack([data], target, Silent(), never_stop)
    assert not os.path.lexists(target / "link")


def test_a_backup_that_is_cut_off_or_has_no_label_is_refused(tmp_path: Path) -> None:
    data = tar_of(("backup_label", LABEL), ("x", bytes(100_000)))
    for number, bad in enumerate((data[:50_000], tar_of(("x", b"y")), b"", b"no tar" * 1000)):
        target = tmp_path / str(number)
        prepare_directory(target)
        with pytest.raises(IntegrityFailure):
            unpack(pieces(bad), target, Silent(), never_stop)


def test_a_directory_with_anything_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(Refused):
        prepare_directory(tmp_path)


def test_goals_become_settings(tmp_path: Path) -> None:
    (tmp_path / "postgresql.auto.conf").write_text("work_mem = '4MB'\n")
    moment = parse_goal_time("2026-11-23T10:00:00.5+01:00")
    write_goal(tmp_path, Goal("fetch 'it' \\ %f", moment))
    text = (tmp_path / "postgresql.auto.conf").read_text()
    assert text.startswith("work_mem = '4MB'\n")
    assert "recovery_target_time = '2026-11-23 09:00:00.500000+00'\n" in text
    assert "restore_command = 'fetch ''it'' \\\\ %f'\n" in text
    assert (tmp_path / "recovery.signal").exists()
    assert quoted("a'b") == "'a''b'"
    assert Goal("x", lsn="0/3000148").settings["recovery_target_lsn"] == "0/3000148"
    assert Goal(None).settings == {}


def test_times_and_positions_are_checked() -> None:
    assert parse_goal_time("2026-11-23T10:00:00Z").astimezone(UTC) == datetime(2026, 11, 23, 10, tzinfo=UTC)
    for text in ("yesterday", "2026-13-01", ""):
        with pytest.raises(UsageError):
            parse_goal_time(text)
    assert parse_lsn("A/3000148") == "A/3000148"
    for text in ("3000148", "0/", "/1", "0/1'", "0/123456789", "0/1/2"):
        with pytest.raises(UsageError):
            parse_lsn(text)
