"""Run Donjon and count what it asks of its S3 store: ``python -m bench.observed REPORT ARGUMENT...``.

The counting is Donjon's own, ``ObservingStore``, right around the store. It is a run of its own, which is not
timed. A listing counts as one call, however many requests its pages take; extending a lock takes two.
"""

from __future__ import annotations

import atexit
import json
import sys
from dataclasses import replace
from pathlib import Path

from bench.measure import Command
from donjon.cli.main import main
from donjon.stores import s3
from donjon.stores.observe import ObservingStore

_ROOT = Path(__file__).resolve().parent.parent


def observed(command: Command, report: Path) -> Command:
    """The same command of Donjon, which writes its calls to ``report`` when it ends."""
    _, *arguments = command.arguments
    program = (sys.executable, "-m", "bench.observed", str(report))
    return replace(
        command,
        arguments=(*program, *arguments),
        environment={**command.environment, "PYTHONPATH": str(_ROOT)},
    )


def calls(report: Path) -> int:
    """How many calls there were. Raises ``FileNotFoundError`` if the command made none."""
    return sum(json.loads(report.read_text()).values())


def _observe(report: Path) -> None:
    """Put the counting around every store of S3 that is opened from here on."""
    stores: list[ObservingStore] = []
    real = s3.S3Store

    def opened(url: str) -> ObservingStore:
        stores.append(ObservingStore(real(url)))
        return stores[-1]

    def write() -> None:
        counted = [store.report() for store in stores]
        methods = {method for one in counted for method in one}
        total = {
            method: sum(one[method].calls for one in counted if method in one) for method in sorted(methods)
        }
        report.write_text(json.dumps(total))

    setattr(s3, "S3Store", opened)  # noqa: B010 - what wiring imports when it opens a store
    atexit.register(write)


if __name__ == "__main__":
    _observe(Path(sys.argv[1]).absolute())
    main(sys.argv[2:])
