"""`donjon postgres`: back up a server of PostgreSQL, and bring it back."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from donjon.cli.common import (
    JsonOption,
    KitOption,
    PassphraseOption,
    QuietOption,
    VaultOption,
    output,
    workspace,
)
from donjon.cli.interrupt import stopping
from donjon.cli.permits import AlthoughOption, ApprovalOption, permit
from donjon.core.errors import UsageError
from donjon.core.units import format_size, parse_duration

_BACKUP_OUTLOOK = "Nothing was committed; the server goes on as before."
_RESTORE_OUTLOOK = "Remove what was restored, and run it again."

_BACKUP_EPILOG = """\b
Examples:
  donjon postgres backup shop                  a base backup of the service "shop", as the workload "shop"
  donjon postgres backup shop --mode dump --database orders --database stock

\b
JSON: {"point", "workload", "mode", "bytes", "bytes_stored", "warnings"}."""

_RESTORE_EPILOG = """\b
Examples:
  donjon postgres restore shop@latest /var/lib/postgresql/15/restored
  donjon postgres restore shop@latest /srv/pg --to-time 2026-11-23T09:59:30+01:00
  donjon postgres restore shop@2026-11-20 /srv/pg --no-wal     as it was when the backup ended
  donjon postgres restore shop@latest /srv/pg --tablespace fast=/ssd/pg

\b
JSON: {"point", "directory", "start", "timeline", "settings": {...}, "warnings"}; start is the segment of
the log in which recovery begins, settings are what was written for PostgreSQL."""

TimeOption = Annotated[
    str | None, typer.Option("--to-time", metavar="TIME", help="Recover to this time (ISO 8601) [the end].")
]
LsnOption = Annotated[
    str | None, typer.Option("--to-lsn", metavar="LSN", help="Recover to this position of the log.")
]
NoWalOption = Annotated[
    bool, typer.Option("--no-wal", help="Use the log in the base backup alone: the state at its end.")
]

app = typer.Typer(help="Back up a server of PostgreSQL, and bring it back.", no_args_is_help=True)


class Mode(enum.StrEnum):
    """How a server is backed up."""

    BASE = "base"
    DUMP = "dump"


@app.callback()
def _group() -> None:
    pass


@app.command("backup", epilog=_BACKUP_EPILOG)
def backup(
    service: Annotated[str, typer.Argument(metavar="SERVICE", help="A service of pg_service.conf.")],
    workload: Annotated[
        str | None, typer.Option("--workload", help="Name of what is protected [SERVICE].")
    ] = None,
    mode: Annotated[Mode, typer.Option("--mode", help="A base backup, or logical dumps.")] = Mode.BASE,
    database: Annotated[
        list[str] | None,
        typer.Option("--database", metavar="NAME", help="With --mode dump: only this; repeatable [all]."),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="Label of the point; repeatable.")] = None,
    timeout: Annotated[
        str, typer.Option("--timeout", metavar="TIME", help="How long it may take: 12h.")
    ] = "12h",
    vault: VaultOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Back up a server while it works: by pg_basebackup, or by pg_dump and pg_dumpall.

    The service says where the server is and as whom to connect; the password is there or in ~/.pgpass. If one
    of the programs fails, nothing is committed. For recovery to a point in time archive the log as well, with
    `donjon wal push`.
    """
    from donjon.app.postgres.servers import BackupWanted, back_up_server

    out = output(json=json, quiet=quiet)
    if database and mode is Mode.BASE:
        msg = "a base backup is of the whole server"
        raise UsageError(msg, hint="Leave --database out, or use --mode dump.")
    wanted = BackupWanted(
        service, workload or service, mode, tuple(database or ()), tuple(tag or ()), parse_duration(timeout)
    )
    with stopping(_BACKUP_OUTLOOK) as stop, out.progress("Backing up") as progress:
        outcome, warnings = back_up_server(workspace(vault), wanted, progress, stop)
    out.warn_all(warnings)
    data = {
        "point": outcome.point.hex(),
        "workload": wanted.workload,
        "mode": mode.value,
        "bytes": outcome.counts.size_bytes,
        "bytes_stored": outcome.bytes_stored,
        "warnings": warnings,
    }
    size, stored = format_size(outcome.counts.size_bytes), format_size(outcome.bytes_stored)
    text = f"Point {outcome.point.hex()[:12]} of {wanted.workload}: read {size}, stored {stored}"
    out.result(data, text)
    return 0


@app.command("restore", epilog=_RESTORE_EPILOG)
def restore(
    point: Annotated[str, typer.Argument(metavar="POINT", help="WORKLOAD@latest, WORKLOAD@TIME or an id.")],
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="The new data directory: empty, or to be made.")
    ],
    to_time: TimeOption = None,
    to_lsn: LsnOption = None,
    no_wal: NoWalOption = False,
    restore_command: Annotated[
        str | None,
        typer.Option("--restore-command", metavar="COMMAND", help="Instead of `donjon wal fetch ...`."),
    ] = None,
    tablespace: Annotated[
        list[str] | None,
        typer.Option(
            "--tablespace", metavar="NAME=FOLDER", help="Where a tablespace goes: a new folder; repeatable."
        ),
    ] = None,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    approval: ApprovalOption = None,
    although_suspect: AlthoughOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Make a data directory from a base backup, ready for the server to start and recover.

    Files belong to the owner of DIR if it is there already. restore_command is set so that the server fetches
    its log from the vault, with the kit that is used now. By default it recovers as far as the log goes.
    Dumps are brought back with `donjon restore` and pg_restore.
    """
    from donjon.app.postgres.servers import RestoreWanted, restore_server
    from donjon.recovery.postgres import parse_goal_time, parse_lsn

    out = output(json=json, quiet=quiet)
    check_goal(to_time, to_lsn, no_wal=no_wal)
    wanted = RestoreWanted(
        point,
        directory.absolute(),
        parse_goal_time(to_time) if to_time else None,
        parse_lsn(to_lsn) if to_lsn else None,
        not no_wal,
        restore_command,
        permit(approval, although=although_suspect),
        dict(map(_tablespace, tablespace or ())),
    )
    space = workspace(vault, kit, passphrase_file)
    with stopping(_RESTORE_OUTLOOK) as stop, out.progress("Restoring") as progress:
        done = restore_server(space, wanted, progress, stop)
    out.warn_all(done.warnings)
    data = {
        "point": done.point.hex(),
        "directory": str(done.directory),
        "start": done.label.segment,
        "timeline": done.label.timeline,
        "settings": done.goal.settings,
        "warnings": done.warnings,
    }
    lines = [f"Restored point {done.point.hex()[:12]} to {done.directory}"]
    lines += [f"  {name} = {value}" for name, value in done.goal.settings.items()]
    lines.append("Start the server on it; it recovers by itself.")
    out.result(data, "\n".join(lines))
    return 0


def _tablespace(text: str) -> tuple[str, Path]:
    name, sign, folder = text.partition("=")
    if not (name and sign and folder):
        msg = f"--tablespace {text}: names no folder"
        raise UsageError(msg, hint="Write --tablespace NAME=FOLDER.")
    return name, Path(folder).absolute()


def check_goal(to_time: str | None, to_lsn: str | None, *, no_wal: bool) -> None:
    """Raises ``UsageError`` for goals that contradict each other."""
    if (to_time is not None) + (to_lsn is not None) + no_wal > 1:
        msg = "--to-time, --to-lsn and --no-wal do not go together"
        raise UsageError(msg, hint="Choose one of them, or none to recover as far as the log goes.")
