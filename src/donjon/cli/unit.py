"""The unit that is shipped for systemd."""

from __future__ import annotations

import shutil
import sys
from importlib.resources import files
from pathlib import Path

_PROGRAM = "/usr/bin/donjon"


def unit_text() -> str:
    """The unit, with the path of this program."""
    text = files("donjon.scheduling").joinpath("donjon.service").read_text(encoding="utf-8")
    found = Path(sys.argv[0]).absolute() if Path(sys.argv[0]).name == "donjon" else shutil.which("donjon")
    return text.replace(_PROGRAM, str(found or _PROGRAM))
