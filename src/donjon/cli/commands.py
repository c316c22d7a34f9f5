"""The tree of commands.

A module is imported when its command is called, for all of them together take longer to load than most
commands take to run.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from types import ModuleType

import typer

_HELP = """Backups that an attacker holding the production credentials cannot delete, alter or read.

Start with `donjon init URL --kit FILE --second-kit FILE`, then `donjon backup PATH`."""

Add = Callable[[typer.Typer], None]


def application(arguments: list[str] | None = None) -> Callable[..., object]:
    """The command line as one callable: all of it, or what these arguments need."""
    app = typer.Typer(help=_HELP, no_args_is_help=True, add_completion=False, rich_markup_mode=None)
    app.callback()(_options)
    called = arguments[0] if arguments else ""
    for name in [called] if called in _COMMANDS else _COMMANDS:
        _COMMANDS[name](app)
    return typer.main.get_command(app)


def _options() -> None:
    pass


def _module(name: str) -> ModuleType:
    return import_module(f"donjon.cli.{name}")


def _command(name: str) -> Add:
    """A command that is alone in the module of its name, beside its examples."""

    def add(app: typer.Typer) -> None:
        module = _module(name)
        app.command(name, epilog=module.EPILOG)(getattr(module, name))

    return add


def _group(name: str) -> Add:
    """A group that its module makes."""
    return lambda app: app.add_typer(_module(name).app, name=name)


def _keys(app: typer.Typer) -> None:
    from donjon.cli import keys, keys_check, keys_rotate, shares

    group = keys.app
    group.command("check", epilog=keys_check.EPILOG)(keys_check.check)
    group.command("rotate", epilog=keys_rotate.EPILOG)(keys_rotate.rotate)
    group.command("split", epilog=shares.SPLIT_EPILOG)(shares.split)
    group.command("join", epilog=shares.JOIN_EPILOG)(shares.join)
    app.add_typer(group, name="keys")


def _drill(app: typer.Typer) -> None:
    from donjon.cli import drill, drill_key_loss, drill_postgres

    group = drill.app
    group.command("key-loss", epilog=drill_key_loss.EPILOG)(drill_key_loss.key_loss)
    group.command("postgres", epilog=drill_postgres.EPILOG)(drill_postgres.postgres)
    app.add_typer(group, name="drill")


def _custody(app: typer.Typer) -> None:
    from donjon.cli import checkpoint, custody, reap

    group = typer.Typer(help="Look after the vault without a key: locks, checkpoints, what may go.")
    group.command("plan", epilog=custody.PLAN_EPILOG)(custody.plan)
    group.command("extend", epilog=custody.EXTEND_EPILOG)(custody.extend)
    group.command("checkpoint", epilog=checkpoint.EPILOG)(checkpoint.checkpoint)
    group.add_typer(reap.app, name="reap")
    app.add_typer(group, name="custody")


def _plan(app: typer.Typer) -> None:
    from donjon.cli import plan, plan_changes, plan_run

    group = plan.app
    group.command("diff", epilog=plan_changes.DIFF_EPILOG)(plan_changes.diff)
    group.command("adopt", epilog=plan_changes.ADOPT_EPILOG)(plan_changes.adopt)
    group.command("run", epilog=plan_run.RUN_EPILOG)(plan_run.run)
    group.command("status", epilog=plan_run.STATUS_EPILOG)(plan_run.status)
    app.add_typer(group, name="plan")


_ALONE = (
    "init", "backup", "points", "ls", "find", "diff", "dump", "restore", "mount", "verify", "copy", "stats",
    "status", "run", "enrol", "completion",
)  # fmt: skip
_GROUPS = (
    "catalog", "snapshots", "writer", "custodian", "auditor", "retention", "credentials", "roles", "approver",
    "approve", "deletion", "evidence", "verdict", "postgres",
)  # fmt: skip
_COMMANDS: dict[str, Add] = {
    **{name: _command(name) for name in _ALONE},
    "plan": _plan,
    "keys": _keys,
    "custody": _custody,
    "drill": _drill,
    "wal": lambda app: app.add_typer(_module("postgres_wal").app, name="wal"),
    **{name: _group(name) for name in _GROUPS},
}
