"""`donjon wal`: PostgreSQL's write-ahead log into the vault and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from donjon.cli.output import report_error
from donjon.core.clock import iso
from donjon.core.errors import DonjonError, PathNotFound

if TYPE_CHECKING:
    from donjon.app.postgres.check import Checked

_FINDINGS = 4
#: PostgreSQL takes 1 to 125 for the end of the log, and would open the server there; more ends the recovery.
_NOT_THE_END = 126
_OUTLOOK = "The server tries again by itself."

WorkloadOption = Annotated[
    str, typer.Option("--workload", metavar="NAME", help="The server, as its base backups are called.")
]

_PUSH_EPILOG = """\b
Examples:
  archive_command = 'donjon wal push --workload shop --quiet "%p"'      in postgresql.conf
  donjon wal push --workload shop pg_wal/000000010000000000000001

\b
JSON: {"names", "point", "warnings"}; names is empty and point null for what was archived before."""

_FETCH_EPILOG = """\b
Examples:
  restore_command = 'donjon wal fetch --workload shop "%f" "%p"'        as `donjon postgres restore` has it
  donjon wal fetch --workload shop 000000010000000000000001 /tmp/segment

\b
JSON: {"name", "bytes"}."""

_CHECK_EPILOG = """\b
Examples:
  donjon wal check --workload shop

\b
JSON: {"missing", "logs": [{"system", "segment_bytes", "newest", "timelines": [{"timeline", "first",
"last", "segments"}]}], "windows": [{"point", "made", "start", "last"}], "damaged"}; last is null if
the log right after that base backup is not archived."""

app = typer.Typer(help="PostgreSQL's write-ahead log into the vault and back.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command("push", epilog=_PUSH_EPILOG)
def push(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="%p of archive_command.")],
    workload: WorkloadOption,
    vault: VaultOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Archive a file of the log: what archive_command calls.

    Ends with 0 only once the file is committed in the vault. Finished files that wait beside it come along,
    so a server that is behind catches up. Archiving the same file again does nothing; other content under a
    name that this host archived is refused.
    """
    from donjon.app.postgres.push import push as carry_out

    out = output(json=json, quiet=quiet)
    with stopping(_OUTLOOK) as stop, out.progress("Archiving") as progress:
        done = carry_out(workspace(vault), workload, path, progress, stop)
    for warning in done.warnings:
        out.warn(warning)
    point = done.point.hex() if done.point else None
    data = {"names": done.names, "point": point, "warnings": done.warnings}
    text = f"Archived {', '.join(done.names)}" if done.names else f"{path.name} is archived already"
    out.result(data, text)
    return 0


@app.command("fetch", epilog=_FETCH_EPILOG)
def fetch(
    name: Annotated[str, typer.Argument(metavar="NAME", help="%f of restore_command.")],
    path: Annotated[Path, typer.Argument(metavar="PATH", help="%p of restore_command.")],
    workload: WorkloadOption,
    system: Annotated[
        int | None,
        typer.Option("--system", metavar="ID", help="System identifier [that of ./global/pg_control]."),
    ] = None,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Fetch a file of the log: what restore_command calls.

    Ends with 1 if the archive does not have it, by which PostgreSQL learns that the log ends. For everything
    else, such as a vault out of reach or a gap, it ends with 126: then PostgreSQL ends the recovery, instead
    of opening a server that lacks what came later.
    """
    out = output(json=json, quiet=quiet)
    try:
        _fetch(name, path, workload, system, vault, kit, passphrase_file)
    except PathNotFound:
        raise
    except DonjonError as error:
        report_error(error)
        return _NOT_THE_END
    except Exception as error:  # a fault of Donjon is not the end of the log either
        report_error(DonjonError(f"{name}: {error!r}", hint="This is a fault of Donjon; please report it."))
        return _NOT_THE_END
    out.result({"name": name, "bytes": path.stat().st_size}, f"Fetched {name}")
    return 0


def _fetch(
    name: str,
    path: Path,
    workload: str,
    system: int | None,
    vault: str | None,
    kit: Path | None,
    passphrase_file: Path | None,
) -> None:
    from donjon.app.postgres.archive import WalArchive
    from donjon.app.postgres.push import system_of

    if system is None:
        try:
            system = system_of(Path())
        except (OSError, DonjonError):
            system = None
    space = workspace(vault, kit, passphrase_file)
    archive = WalArchive(space, space.open_for_reading(), workload)
    archive.fetch(archive.only_system() if system is None else system, name, path)


@app.command("check", epilog=_CHECK_EPILOG)
def check(
    workload: WorkloadOption,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Look for gaps in the archived log, and tell how far each base backup can be recovered.

    Goes by names; what the files hold is the business of `donjon verify` and of drills. Ends with 4 if
    anything is missing, with 12 if manifests are damaged.
    """
    from donjon.app.postgres.check import check_log

    out = output(json=json, quiet=quiet)
    with out.progress("Looking") as progress:
        found = check_log(workspace(vault, kit, passphrase_file), workload, progress)
    out.warn_all([error.message for error in found.damaged])
    out.result(_data(found), "\n".join(_lines(found)))
    if found.damaged:
        return type(found.damaged[0]).exit_code
    return _FINDINGS if found.missing else 0


def _data(found: Checked) -> dict[str, object]:
    from donjon.recovery.postgres_wal import segment_name

    return {
        "missing": found.missing,
        "logs": [
            {
                "system": str(log.system),
                "segment_bytes": log.segment_bytes,
                "newest": iso(log.newest),
                "timelines": [
                    {
                        "timeline": one.timeline,
                        "first": segment_name(one.timeline, one.first, log.segment_bytes),
                        "last": segment_name(one.timeline, one.last, log.segment_bytes),
                        "segments": one.count,
                    }
                    for one in log.timelines
                ],
            }
            for log in found.logs
        ],
        "windows": [
            {
                "point": window.point.hex(),
                "made": iso(window.made_at),
                "start": window.start,
                "last": window.last or None,
            }
            for window in found.windows
        ],
        "damaged": [error.message for error in found.damaged],
    }


def _lines(found: Checked) -> list[str]:
    from donjon.recovery.postgres_wal import segment_name

    lines = []
    for log in found.logs:
        lines.append(f"Cluster {log.system}, newest file of {iso(log.newest)}")
        for one in log.timelines:
            first = segment_name(one.timeline, one.first, log.segment_bytes)
            last = segment_name(one.timeline, one.last, log.segment_bytes)
            lines.append(f"  timeline {one.timeline}: {one.count} segments, {first} to {last}")
    for window in found.windows:
        to = f"to {window.last}" if window.last else "only to its own end: the log after it is not archived"
        lines.append(f"Base {window.point.hex()[:12]} of {iso(window.made_at)}: from {window.start} {to}")
    lines += [f"Missing: {name}" for name in found.missing]
    lines.append(f"{len(found.missing)} files are missing" if found.missing else "No file is missing")
    return lines
