"""What the commands about plans share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from donjon.app.config import Home

PlanOption = Annotated[
    Path | None,
    typer.Option("--plan", metavar="FILE", help="The plan [DONJON_PLAN, ./donjon.yaml, one in the home]."),
]


def plan_path(home: Home, option: Path | None) -> Path:
    """The plan file that is meant. Raises ``UsageError`` if there is none."""
    from donjon.app.plans.files import locate

    return locate(home, option, os.environ, Path.cwd())
