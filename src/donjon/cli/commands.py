"""The tree of commands."""

from __future__ import annotations

from collections.abc import Callable

import typer

from donjon.cli import (
    backup,
    checkpoint,
    completion,
    custodian,
    diff,
    dump,
    enrol,
    find,
    init,
    keys,
    ls,
    mount,
    points,
    restore,
    stats,
    verify,
    writer,
)

_HELP = """Backups that an attacker holding the production credentials cannot delete, alter or read.

Start with `donjon init URL --kit FILE`, then `donjon backup PATH`."""


def application() -> Callable[..., object]:
    """The command line as one callable."""
    app = typer.Typer(help=_HELP, no_args_is_help=True, add_completion=False, rich_markup_mode=None)
    app.callback()(_options)
    app.command("init", epilog=init.EPILOG)(init.init)
    app.command("backup", epilog=backup.EPILOG)(backup.backup)
    app.command("points", epilog=points.EPILOG)(points.points)
    app.command("ls", epilog=ls.EPILOG)(ls.ls)
    app.command("find", epilog=find.EPILOG)(find.find)
    app.command("diff", epilog=diff.EPILOG)(diff.diff)
    app.command("dump", epilog=dump.EPILOG)(dump.dump)
    app.command("restore", epilog=restore.EPILOG)(restore.restore)
    app.command("mount", epilog=mount.EPILOG)(mount.mount)
    app.command("verify", epilog=verify.EPILOG)(verify.verify)
    app.command("stats", epilog=stats.EPILOG)(stats.stats)
    app.add_typer(keys.app, name="keys")
    app.add_typer(writer.app, name="writer")
    app.add_typer(custodian.app, name="custodian")
    custody = typer.Typer(help="Keep watch over the vault without a key.", no_args_is_help=True)
    custody.command("checkpoint", epilog=checkpoint.EPILOG)(checkpoint.checkpoint)
    app.add_typer(custody, name="custody")
    app.command("enrol", epilog=enrol.EPILOG)(enrol.enrol)
    app.command("completion", epilog=completion.EPILOG)(completion.completion)
    return typer.main.get_command(app)


def _options() -> None:
    pass
