"""Ports for servers of tests that run at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from donjon.testing.servers import ports

#: Other ports than those that tests at the same time are given.
_OTHER = """
from donjon.testing.servers import ports
ports._PORTS = range(14_990, 14_993)
print(ports.free_port())
"""


def test_two_processes_are_never_given_the_same_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_PORTS", range(14_990, 14_993))
    monkeypatch.setattr(ports, "_given", {})
    ours = {ports.free_port(), ports.free_port()}
    theirs = subprocess.run(
        [sys.executable, "-c", _OTHER], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert {*ours, int(theirs)} == {14_990, 14_991, 14_992}
    for claim in ports._given.values():
        claim.close()
