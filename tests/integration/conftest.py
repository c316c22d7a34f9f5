"""Fixtures that the tests of commands share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from donjon.testing.folders import remove_tree
from tests.integration.cli import Donjon
from tests.integration.planted import open_to_others


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Donjon]:
    """A host with the command and no vault."""
    folder = tmp_path / "host"
    folder.mkdir()
    host = Donjon(folder)
    yield host
    others = list(open_to_others([host.home]))
    remove_tree(folder)
    assert not others, "files of a host's home that others may read"


@pytest.fixture
def donjon(host: Donjon) -> Donjon:
    """A host with an empty vault without locks, and its kit."""
    host.init()
    return host
