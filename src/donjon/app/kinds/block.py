"""Block devices and image files of this host."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from donjon.app.kinds.base import Check, Prepared, Surroundings
from donjon.core.errors import DonjonError
from donjon.plan.model import Plan
from donjon.plan.workloads import Block
from donjon.sources.block import BlockSource


@contextmanager
def prepare(block: Block, surroundings: Surroundings) -> Iterator[Prepared]:
    """The devices, at rest while they are read. Raises ``Refused`` for one that is mounted for writing."""
    paths = tuple(os.path.abspath(os.fsencode(path)) for path in block.devices)  # noqa: PTH100  (links kept)
    with surroundings.quiesce():
        yield Prepared(BlockSource(paths), paths)


def check_online(block: Block, plan: Plan, workload: str) -> Iterator[Check]:
    """Whether each device is there, can be read, and is not mounted for writing."""
    del plan, workload
    for device in block.devices:
        try:
            BlockSource([os.path.abspath(os.fsencode(device))])  # noqa: PTH100  (links kept)
        except DonjonError as error:
            yield Check(error.message, False, error.hint)
        else:
            yield Check(f"{device}: is there", True)
