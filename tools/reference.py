"""Write docs/reference/cli.md, the reference of the command line, from the commands themselves."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from typing import cast

from typer import Context
from typer.core import TyperCommand, TyperGroup

from donjon.cli.commands import application
from tools.links import ROOT

PATH = ROOT / "docs/reference/cli.md"

EXIT_CODES = {
    0: "Done.",
    1: "Failed: anything that has no code of its own below, such as a full disk or a refusal.",
    2: "Called in a way that cannot be carried out: unknown option, missing source, no vault chosen.",
    3: "Finished, but some items could not be read or restored; they are listed.",
    4: "Findings: something is less protected than promised, or at risk; it is listed.",
    10: "There is no vault at the address.",
    11: "Permission or approvals missing; the message names what was refused, or who has to sign.",
    12: "Integrity failure: stored bytes are not what was put there. The message names the object.",
    13: "No key at hand that opens it, or the wrong one.",
    126: "Of `wal fetch` alone: failed, but not because the log ends there; PostgreSQL stops recovering.",
    130: "Interrupted. What is stored stays, and the next run goes on from there.",
}

ENVIRONMENT = {
    "DONJON_HOME": "Folder of what this host remembers: vaults, writer credentials, cache "
    "[the platform's folder for configuration, on Linux `~/.config/donjon`].",
    "DONJON_VAULT": "Which vault, as `--vault`.",
    "DONJON_KIT": "The recovery kit, as `--kit`.",
    "DONJON_AUDITOR": "The credential that signs evidence, as `--sign`.",
    "DONJON_CUSTODIAN": "The custodian's credential, as `--credential`.",
    "DONJON_PASSPHRASE_FILE": "File with the passphrase, as `--passphrase-file`.",
    "DONJON_PLAN": "The plan file, as `--plan`.",
    "DONJON_CATALOG": "Address of the catalog, such as `postgresql+psycopg://donjon@host/donjon` "
    "[`catalog.db` in the home]. A password is better in `PGPASSWORD` or `~/.pgpass`.",
    "DONJON_WORKLOAD": "Set for the hooks of a plan: the workload that they run for.",
    "DONJON_HOOK": "Set for the hooks of a plan: `before` or `after`.",
    "DONJON_PKCS11_MODULE": "Library that reaches the PKCS #11 token of a key.",
    "DONJON_PKCS11_PIN_FILE": "File with the PIN of the token.",
    "DONJON_SFTP_IDENTITY": "The private SSH key for `sftp://` vaults [the agent's and those of `~/.ssh`].",
    "DONJON_POSTGRES_BIN": "Folder of PostgreSQL's programs [that of the server's version, then `PATH`].",
    "DONJON_DEBUG": "If set to anything, errors come with a traceback.",
}

_HEAD = """# The command line

Made from the commands by `make docs`; do not edit. `donjon COMMAND --help` says the same.
How to use them for real work is in the [guide](../guide.md).
"""

_COMMON = """
## What all commands share

- `--json` prints one JSON object on standard output and nothing else there. Warnings and errors go to
  standard error. Members may be added in later versions, never removed or renamed within a major version.
- A **vault** is named by the name that this host knows it by, or by its address: `/srv/vault`,
  `file:///srv/vault`, `sftp://user@host:port/path`. If this host knows one vault only, that is the default.
- A **point** is named by `latest`, `WORKLOAD@latest`, `WORKLOAD@2026-11-23T10:00` or the beginning of its
  id, long enough to be the only one. `POINT:/path` is a part of it.
- Times are printed in UTC. Those that you give are local unless they end in `Z` or `+01:00`: `2026-11-23`,
  `2026-11-23T10:00` or, for how long ago, `90s`, `15m`, `12h`, `7d`, `8w`, `1y`.
- Sizes are powers of 1024: `64K`, `10M`, `2G`.
- `donjon --version` prints the version.
"""


def commands(group: TyperGroup, parent: Context) -> Iterator[tuple[Context, TyperCommand]]:
    """Every command below a group, each with the context that knows its full name."""
    for name, command in group.commands.items():
        context = Context(command, parent=parent, info_name=name)
        if isinstance(command, TyperGroup):
            yield from commands(command, context)
        else:
            yield context, cast("TyperCommand", command)


def render() -> str:
    """The whole document."""
    app = cast("TyperGroup", application())
    found = list(commands(app, Context(app, info_name="donjon")))
    names = [context.command_path.removeprefix("donjon ") for context, _ in found]
    index = ", ".join(f"[{name}](#donjon-{name.replace(' ', '-')})" for name in names)
    sections = [_section(context, command) for context, command in found]
    return "\n".join([_HEAD, index, _COMMON, _codes(), _environment(), *sections])


def _codes() -> str:
    rows = "\n".join(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items())
    return f"## Exit codes\n\n| code | meaning |\n|---|---|\n{rows}\n"


def _environment() -> str:
    rows = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in ENVIRONMENT.items())
    return f"## Environment\n\nOptions win over variables.\n\n| variable | meaning |\n|---|---|\n{rows}\n"


def _section(context: Context, command: TyperCommand) -> str:
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    params = [param for param in command.get_params(context) if param.name != "help"]
    records = [record for param in params if (record := param.get_help_record(context))]
    rows = "\n".join(f"| {_code(name)} | {_cell(text)} |" for name, text in records)
    parts = [f"## {context.command_path}", inspect.cleandoc(command.help or ""), f"Usage: `{usage}`"]
    parts.append(f"| | |\n|---|---|\n{rows}")
    if command.epilog:
        parts.append(f"```text\n{_plain(command.epilog)}\n```")
    return "\n\n".join(parts) + "\n"


def _plain(epilog: str) -> str:
    """Without the mark (a backspace on a line of its own) that keeps typer from filling a paragraph."""
    return inspect.cleandoc(epilog.replace("\b\n", "")).strip()


def _code(text: str) -> str:
    return f"`{text}`".replace("<list[str]>", "<str>").replace("|", "\\|")


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("<", "&lt;")


def main() -> int:
    """Write the document."""
    PATH.parent.mkdir(exist_ok=True)
    PATH.write_text(render(), encoding="utf-8")
    print(f"Wrote {PATH.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
