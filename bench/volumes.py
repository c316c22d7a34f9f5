"""Volumes: a sparse disk of 16 GiB with 4 GiB of data as a file, a device and a volume of EBS.

EBS is the fake of ``donjon.testing.aws.ebs_front`` in a process of its own on this machine, which shares the
processors with Donjon: its time is told apart. Writes docs/benchmarks-volumes.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.request import urlopen

from bench.corpora import endless_system_files
from bench.measure import Command, Measurement, measure, remove, run
from donjon.clouds.ebs import REQUESTS_PER_S
from donjon.core.units import GIB, MIB

_ROOT = Path(__file__).resolve().parent.parent
_TARGET = _ROOT / "docs" / "benchmarks-volumes.md"
_SIZE = 16 * GIB
_DATA = 4 * GIB
_RUN = 64 * MIB  # data lies in runs of this length, a hole of three times that behind each
_BLOCK = 512 * 1024
_CHANGED = _DATA // _BLOCK // 100
_SEED = 20_261_126


@dataclass(frozen=True)
class Row:
    """One step. ``server_s`` is processor time of the fake, ``blocks`` how many it was asked for."""

    what: str
    taken: Measurement
    load: float
    server_s: float = 0.0
    blocks: int = 0

    @property
    def megabytes_per_s(self) -> float:
        """Of data."""
        return _DATA / 1e6 / self.taken.wall_s

    def __str__(self) -> str:
        taken = self.taken
        costs = f"{taken.wall_s:7.2f} s {taken.cpu_s:7.2f} cpu-s {taken.peak_bytes / 1e6:5.0f} MB"
        fake = f"fake {self.server_s:5.2f} cpu-s {self.blocks:5} blocks"
        return f"{self.what:26} {costs} {self.megabytes_per_s:6.0f} MB/s   {fake}   load {self.load:.1f}"


def main(rounds: int) -> int:
    """Measure, write the document; 1 if a budget is missed."""
    work = Path(os.environ.get("DONJON_BENCH_DIR", _ROOT / ".bench")).resolve() / "volumes"
    (work / "logs").mkdir(parents=True, exist_ok=True)
    image = _make_image(work / "disk.img")
    rows: dict[str, list[Row]] = {}
    try:
        for _ in range(rounds):
            for row in _round(work, image):
                print(row, flush=True)
                rows.setdefault(row.what, []).append(row)
    finally:
        remove(work / "run")
    middle = [sorted(same, key=lambda row: row.taken.wall_s)[len(same) // 2] for same in rows.values()]
    text, good = _report(middle, rounds)
    _TARGET.write_text(text)
    print(f"wrote {_TARGET.relative_to(_ROOT)}")
    return 0 if good else 1


def _make_image(path: Path) -> Path:
    """Half of the data is random, half is of files of the system, run by run."""
    if path.exists():
        return path
    generator = random.Random(_SEED)  # noqa: S311 - the same each time
    system = _system_bytes()
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        for number in range(_DATA // _RUN):
            file.seek(number * 4 * _RUN)
            for _ in range(_RUN // MIB):
                file.write(generator.randbytes(MIB) if number % 2 else next(system))
        file.truncate(_SIZE)
    temporary.rename(path)
    return path


def _system_bytes() -> Iterator[bytes]:
    waiting = bytearray()
    for _, path, _ in endless_system_files():
        with contextlib.suppress(OSError):
            waiting += Path(path).read_bytes()
        while len(waiting) >= MIB:
            yield bytes(waiting[:MIB])
            del waiting[:MIB]


def _round(work: Path, image: Path) -> Iterator[Row]:
    donjon = str(Path(sys.executable).with_name("donjon"))

    def backup(folder: Path, environment: dict[str, str], *what: str) -> Command:
        return Command([donjon, "backup", *what, "--json"], environment, folder)

    for what, arguments in (("as a file", (str(image),)), ("as a device", ("--device", str(image)))):
        with _vault(work, donjon) as (folder, environment):
            _warm(image)
            load = os.getloadavg()[0]
            yield Row(
                what, measure(backup(folder, environment, *arguments), work / "logs" / "file.log"), load
            )
    with _vault(work, donjon) as (folder, own), _server(image) as (address, process):
        environment = own | _aws(address)
        for what, snapshot in (
            ("as a volume of EBS", "snap-first"),
            ("increment of EBS, 1 %", "snap-second"),
        ):
            _warm(image)
            load, before, blocks = os.getloadavg()[0], _cpu_s(process), _blocks(address)
            command = backup(folder, environment, "--ebs-snapshot", snapshot, "--workload", "disk")
            taken = measure(command, work / "logs" / "ebs.log")
            yield Row(what, taken, load, _cpu_s(process) - before, _blocks(address) - blocks)
        load, before = os.getloadavg()[0], _cpu_s(process)
        to_image = [donjon, "restore", "disk@latest", "--to-device", str(folder / "back.img")]
        taken = measure(Command(to_image, environment, folder), work / "logs" / "restore.log")
        yield Row("restore to an image file", taken, load)


@contextlib.contextmanager
def _vault(work: Path, donjon: str) -> Iterator[tuple[Path, dict[str, str]]]:
    folder = work / "run"
    remove(folder)
    folder.mkdir(parents=True)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "DONJON_HOME": str(folder / "home"),
        "DONJON_VAULT": str(folder / "vault"),
        "DONJON_KIT": str(folder / "kit"),
    }
    kits = ("--kit", str(folder / "kit"), "--second-kit", str(folder / "second"))
    run(Command([donjon, "init", str(folder / "vault"), *kits, "--lock", "none"], environment, folder))
    yield folder, environment
    remove(folder)


@contextlib.contextmanager
def _server(image: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "bench.ebs_server", str(image), str(_CHANGED)]
    process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        yield process.stdout.readline().strip(), process
    finally:
        process.kill()
        process.wait()


def _aws(address: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "made-up",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _cpu_s(process: subprocess.Popen[str]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _blocks(address: str) -> int:
    with urlopen(f"{address}/counts") as answer:  # noqa: S310 - our own server
        return int(json.load(answer).get("GetSnapshotBlock", 0))


def _warm(image: Path) -> None:
    """Read what there is, so that each finds the same in the page cache."""
    buffer = memoryview(bytearray(MIB))
    with image.open("rb") as file:
        for number in range(_DATA // _RUN):
            for offset in range(0, _RUN, MIB):
                os.preadv(file.fileno(), [buffer], number * 4 * _RUN + offset)


def _report(rows: list[Row], rounds: int) -> tuple[str, bool]:
    by_name = {row.what: row for row in rows}
    speed = by_name["as a file"].taken.wall_s / by_name["as a volume of EBS"].taken.wall_s
    costs = by_name["as a volume of EBS"].taken.cpu_s / by_name["as a file"].taken.cpu_s
    blocks = by_name["increment of EBS, 1 %"].blocks
    peak = max(row.taken.peak_bytes for row in rows)
    good = speed >= 0.75 and blocks == _CHANGED and peak <= 400e6
    bound = by_name["as a file"].taken.wall_s / (_DATA / _BLOCK / REQUESTS_PER_S)
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    lines = [
        "# Volumes",
        "",
        f"From `make bench ARGS=--volumes` on {today}, {os.cpu_count()} processors; median of {rounds}.",
        "A sparse disk of 16 GiB with 4 GiB of data, half random, half files of a system, goes to a vault in",
        "a folder. EBS is a **fake** in a process on the same machine, in Python, which takes processor time",
        "of its own: it tells what Donjon costs, and nothing of the speed of EBS.",
        "",
        "| | seconds | MB/s of data | processor s | of the fake | blocks read | peak memory | load before |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        taken = row.taken
        rate = f"{row.megabytes_per_s:.0f}" if "increment" not in row.what else ""
        lines.append(
            f"| {row.what} | {taken.wall_s:.1f} | {rate} | {taken.cpu_s:.1f} | {row.server_s:.1f} | "
            f"{row.blocks or ''} | {taken.peak_bytes / 1e6:.0f} MB | {row.load:.1f} |"
        )
    lines += [
        "",
        f"- EBS has {speed:.2f} of the speed of a file with the same content; wanted: 0.75"
        + (", **not met**." if speed < 0.75 else "."),
        f"- It took {costs:.2f} times the processor seconds, the fake's not counted: a SHA-256 and a",
        "  signed request for each 512 KiB come on top of storing them.",
        f"- EBS lets {REQUESTS_PER_S:,} blocks a second be read by default, and Donjon asks for no more:",
        f"  with that alone it could have {bound:.2f}.",
        f"- In the increment {_CHANGED} blocks had changed, and {blocks} were read.",
        f"- Peak memory {peak / 1e6:.0f} MB; wanted: at most 400 MB.",
        "",
    ]
    if max(row.load for row in rows) > 2 * (os.cpu_count() or 1):
        text = "The load before was high at times, be it of other work or of the runs before."
        lines += [text, ""]
    return "\n".join(lines), good
