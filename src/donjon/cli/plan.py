"""`donjon plan`: whether a plan is right, what plans may say, and an example."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from donjon.cli.common import JsonOption, QuietOption, output, workspace
from donjon.cli.output import one_line
from donjon.cli.plan_files import plan_path

if TYPE_CHECKING:
    from donjon.app.plans.online import Seen
    from donjon.app.wiring import Workspace
    from donjon.plan.model import Plan
    from donjon.plan.problems import Problem

_WRONG = 2
_FINDINGS = 4

_CHECK_EPILOG = """\b
Examples:
  donjon plan check
  donjon plan check /etc/donjon/donjon.yaml --json
  donjon plan check --online
      also opens each vault with what this host has, and looks for what is to be backed up

\b
JSON: {"file", "digest", "plan", "workloads", "problems": [{"line", "column", "path", "rule", "severity",
"message", "hint"}], "online"}; severity is error or warning; "plan" is its name, null if its form is wrong;
"online" is null without --online, else [{"path", "good", "what", "hint"}]; good may be null: unknown."""

_SCHEMA_EPILOG = """\b
Examples:
  donjon plan schema > donjon.schema.json
      for editors that complete and check YAML by a schema"""

_EXAMPLE_EPILOG = """\b
Examples:
  donjon plan example > donjon.yaml"""

app = typer.Typer(help="What is protected, how, and where: the plan of this host.", no_args_is_help=True)


@app.command("check", epilog=_CHECK_EPILOG)
def check(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="The plan [DONJON_PLAN, ./donjon.yaml, one in the home]."),
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Look at the vaults and at what is protected, too.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Tell everything that is wrong with a plan, with lines and columns, and what to do about it.

    Changes nothing. Ends with 2 if there are errors, else with 4 if --online finds something that is not as
    it has to be; warnings alone end with 0.
    """
    from donjon.app.plans.files import as_text, digest_of, read_bytes
    from donjon.plan.load import check as find_problems

    out = output(json=json, quiet=quiet)
    space = workspace()
    path = plan_path(space.home, file)
    data = read_bytes(path)
    checked = find_problems(as_text(data, path))
    workloads = len(checked.plan.workloads) if checked.plan else 0
    seen = list(_look(space, checked.plan)) if online and checked.plan and not checked.errors else []
    for line in [*(_line(problem, path) for problem in checked.problems), *map(_seen_line, seen)]:
        out.line(line)
    shown: dict[str, object] = {
        "file": str(path),
        "digest": digest_of(data),
        "plan": checked.plan.name if checked.plan else None,
        "workloads": workloads,
        "problems": [_data(problem) for problem in checked.problems],
        "online": [_seen_data(one) for one in seen] if online else None,
    }
    out.result(shown, _summary(len(checked.errors), len(checked.warnings), path, workloads))
    if checked.errors:
        return _WRONG
    return _FINDINGS if any(one.is_good is False for one in seen) else 0


@app.command("schema", epilog=_SCHEMA_EPILOG)
def schema() -> int:
    """Print the JSON Schema of plans."""
    from donjon.plan.schema import schema_text

    sys.stdout.write(schema_text())
    return 0


@app.command("example", epilog=_EXAMPLE_EPILOG)
def example() -> int:
    """Print a plan with comments, to begin with."""
    from importlib.resources import files

    sys.stdout.write(files("donjon.plan").joinpath("example.yaml").read_text(encoding="utf-8"))
    return 0


def _line(problem: Problem, path: Path) -> str:
    kind = "error" if problem.is_error else "warning"
    text = f"{path}:{problem.line}:{problem.column}: {kind}: "
    text += f"{problem.path}: {problem.message}" if problem.path else problem.message
    return f"{text}\n    {problem.hint}" if problem.hint else text


def _look(space: Workspace, plan: Plan) -> Iterator[Seen]:
    from donjon.app.plans.online import look

    return look(space, plan)


def _seen_line(seen: Seen) -> str:
    kind = {True: "good", False: "wrong", None: "unknown"}[seen.is_good]
    text = f"online: {kind}: {seen.path}: {one_line(seen.what)}"
    return f"{text}\n    {seen.hint}" if seen.hint else text


def _seen_data(seen: Seen) -> dict[str, object]:
    return {"path": seen.path, "good": seen.is_good, "what": seen.what, "hint": seen.hint}


def _data(problem: Problem) -> dict[str, object]:
    return {
        "line": problem.line,
        "column": problem.column,
        "path": problem.path,
        "rule": problem.rule,
        "severity": "error" if problem.is_error else "warning",
        "message": problem.message,
        "hint": problem.hint,
    }


def _summary(errors: int, warnings: int, path: Path, workloads: int) -> str:
    if not errors and not warnings:
        return f"{path}: nothing is wrong with it; it protects {workloads} workloads"
    return f"{path}: {errors} errors, {warnings} warnings"
