"""Fixtures that the tests of commands share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from donjon.testing.folders import remove_tree
from tests.integration.cli import Donjon


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Donjon]:
    """A host with the command and no vault."""
    folder = tmp_path / "host"
    folder.mkdir()
    yield Donjon(folder)
    remove_tree(folder)


@pytest.fixture
def donjon(host: Donjon) -> Donjon:
    """A host with an empty vault without locks, and its kit."""
    host.init()
    return host
