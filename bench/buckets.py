"""What backing up a bucket of small objects costs, beside `rclone copy` of it to a folder.

The bucket is in a real S3 server on this machine, which takes part of its processors. Then a million keys
that nobody has to store, for what the list alone costs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, Final

from bench.measure import Command, Measurement, count, measure, remove, run
from bench.rivals import RivalError, rclone
from bench.servers import Server, running
from donjon.clouds.objects.base import Got, Listed, Metadata
from donjon.sources.bucket.source import BucketSource

_OBJECTS: Final = 100_000
_SIMULATED: Final = 1_000_000
_BUCKET: Final = "bench"
_SEED: Final = 5
_MEMORY_BYTES: Final = 400 * 10**6


def main(work: Path) -> int:
    """Measure, and print a table; 1 if Donjon was slower than rclone or took too much memory."""
    objects = int(os.environ.get("DONJON_BENCH_OBJECTS", _OBJECTS))
    folder = work / "buckets"
    remove(folder)
    folder.mkdir(parents=True)
    try:
        with running(folder / "server") as server:
            print(f"putting {objects} objects of 1 to 10 KB", flush=True)
            total = _fill(server, objects)
            try:
                rival = _rclone(folder, server, objects, total)
            except RivalError as error:
                print(f"rclone is left out: {error}", file=sys.stderr)
                rival = None
            first, again = _donjon(folder, server)
        memory = _simulated(folder)
    finally:
        remove(folder)
    peak = max(first.peak_bytes, again.peak_bytes, memory)
    print(f"\npeak memory {peak / 1e6:.0f} MB; wanted: {_MEMORY_BYTES / 1e6:.0f} MB at most")
    faster = rival is None or first.wall_s <= rival.wall_s
    if rival is not None:
        print(f"rclone's time over Donjon's: {rival.wall_s / first.wall_s:.2f}; wanted: 1 or more")
    return 0 if faster and peak <= _MEMORY_BYTES else 1


def _fill(server: Server, objects: int) -> int:
    with ProcessPoolExecutor(4) as pool:
        step = -(-objects // 4)
        work = [(server.endpoint, server.environment, start, min(start + step, objects)) for start in
                range(0, objects, step)]  # fmt: skip
        return sum(pool.map(_put, work))


def _put(work: tuple[str, dict[str, str], int, int]) -> int:
    endpoint, environment, start, end = work
    os.environ.update(environment)
    from donjon.clouds.objects.address import BucketAddress
    from donjon.clouds.objects.s3 import S3Objects

    objects = S3Objects(BucketAddress.parse(f"s3://{_BUCKET}?endpoint={endpoint}"))
    client: Any = objects._client  # noqa: SLF001  (only to make the bucket)
    with contextlib.suppress(client.exceptions.ClientError):  # another process was first
        client.create_bucket(Bucket=_BUCKET)
    total = 0
    for number in range(start, end):
        randomness = random.Random(_SEED + number)  # noqa: S311
        data = randomness.randbytes(randomness.randrange(1000, 10_000))
        objects.put(f"d{number % 1009:04}/k{number:07}.bin", data, Metadata(), replace=True)
        total += len(data)
    return total


def _rclone(folder: Path, server: Server, objects: int, total: int) -> Measurement:
    program = rclone(folder / "rclone")
    settings = folder / "rclone.conf"
    environment = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}
    environment |= server.environment
    settings.write_text(f"[s]\ntype = s3\nprovider = Other\nenv_auth = true\nendpoint = {server.endpoint}\n")
    target = folder / "copy"
    arguments = [str(program), "--config", str(settings), "copy", f"s:{_BUCKET}", str(target)]
    taken = _measured("rclone copy", Command(arguments, environment, folder))
    if count(target) != (objects, total):
        msg = f"rclone copied {count(target)} of {(objects, total)}"
        raise RuntimeError(msg)
    shutil.rmtree(target)
    return taken


def _donjon(folder: Path, server: Server) -> tuple[Measurement, Measurement]:
    home = folder / "home"
    environment = {**os.environ, **server.environment, "DONJON_HOME": str(home), "HOME": str(folder)}
    program = str(Path(sys.executable).with_name("donjon"))
    vault = str(folder / "vault")
    made = [program, "init", vault, "--single-recipient", "--kit", str(folder / "kit"), "--lock", "none"]
    run(Command(made, environment, folder))
    url = f"s3://{_BUCKET}?endpoint={server.endpoint}"
    backup = Command([program, "backup", "--vault", vault, "--bucket", url], environment, folder)
    return _measured("donjon backup", backup), _measured("donjon, unchanged", backup)


def _measured(name: str, command: Command) -> Measurement:
    load = os.getloadavg()[0]
    taken = measure(command, command.folder / "log")
    print(
        f"{name:<20} {taken.wall_s:8.1f} s {taken.cpu_s:8.1f} cpu-s {taken.peak_bytes / 1e6:6.0f} MB"
        f"   load before {load:.1f}",
        flush=True,
    )
    return taken


def _simulated(folder: Path) -> int:
    """Walk a million keys in a process of its own; its peak memory in bytes."""
    arguments = [sys.executable, "-m", "bench.buckets", "--simulate", str(_SIMULATED)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    taken = _measured(f"{_SIMULATED} keys", Command(arguments, environment, folder))
    return taken.peak_bytes


class _Simulated:
    """A bucket with so many keys, in the order in which S3 lists them, and nothing in it."""

    url, provider, prefix = "s3://simulated", "s3", ""

    def __init__(self, keys: int) -> None:
        self._keys = keys

    def pages(self, *, versions: bool = False) -> Iterator[list[Listed]]:
        """A thousand keys each."""
        for start in range(0, self._keys, 1000):
            yield [
                Listed(f"photos/{n // 5000:05}/image-{n:09}.jpeg", n, n * 10**9, f"{n:032x}", "", "STANDARD")
                for n in range(start, min(start + 1000, self._keys))
            ]

    def read(self, listed: Listed, **_: Any) -> Got:
        """Never asked for."""
        raise NotImplementedError


def simulate(keys: int) -> None:
    """List and walk, and print what it took."""
    began = time.monotonic()
    source = BucketSource(_Simulated(keys))  # type: ignore[arg-type]  # as much of the port as is used
    found = sum(item.is_file for item in source.items())
    source.close()
    # Not that of getrusage(2), which counts the process that started this one.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak = int(status["VmHWM"].split()[0]) // 1024
    print(f"{found} keys in {time.monotonic() - began:.1f} s, {peak} MiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulate", type=int, metavar="KEYS")
    options = parser.parse_args()
    if options.simulate:
        simulate(options.simulate)
    else:
        with tempfile.TemporaryDirectory() as folder_name:
            sys.exit(main(Path(folder_name)))
