"""Whatever a command writes to its standard output, as one file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager

from donjon.app.kinds.base import Prepared, Surroundings
from donjon.plan.workloads import CommandOutput
from donjon.sources.commands import CommandStream
from donjon.sources.stream import StreamSource


@contextmanager
def prepare(output: CommandOutput, surroundings: Surroundings) -> Iterator[Prepared]:
    """The command, which runs once its output is read. Raises ``UsageError`` for a name that is no path."""
    stream = CommandStream(
        output.command,
        what=f"{surroundings.workload}: {output.command[0]}",
        timeout_s=output.timeout,
        stop=surroundings.stop,
    )
    name = os.fsencode(output.filename)
    with closing(stream), surroundings.quiesce():
        yield Prepared(StreamSource(name, stream), (b"/" + name.lstrip(b"/"),))
