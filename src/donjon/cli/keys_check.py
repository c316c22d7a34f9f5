"""`donjon keys check`: does every key open what it should?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from donjon.cli.common import JsonOption, PassphraseOption, QuietOption, VaultOption, output, workspace
from donjon.cli.key_lines import key_data, key_line

if TYPE_CHECKING:
    from donjon.app.keys.check import CheckedKeys
    from donjon.repository.sealing import KeyCheck

_INTEGRITY = 12
_NO_KEY = 13
_SHOWN = 5

EPILOG = """\b
Examples:
  donjon keys check --kit vault.kit
  donjon keys check --kit vault.kit --kit second.kit --passphrase-file F
  donjon keys check --kit vault.kit --all
      opens every session with the key services too, which is a call each

Ends with 13 if a key that was tried does not open a session, with 12 if one is damaged.

\b
JSON: {"ok", "sessions", "sealed_to", "keys": [{"id", "kind", "name", "created", "uri",
"sealed", "missing", "tried", "opened", "not_tried", "failures"}], "unopened", "damaged",
"warnings"}; not_tried says why, and is null for a key that was tried."""


def check(
    vault: VaultOption = None,
    kit: Annotated[
        list[Path] | None,
        typer.Option("--kit", metavar="FILE", help="Recovery kit to try; repeatable [DONJON_KIT]."),
    ] = None,
    passphrase_file: PassphraseOption = None,
    sample: Annotated[
        int | None, typer.Option("--sample", metavar="N", min=1, help="Open so many sessions with each key.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Open every session with each key.")] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Prove that keys open the backups: all that can be reached from here.

    Those are the kits and the passphrase given, and the key services of the vault that answer. Every session
    is opened with kits and passphrases, and 16 with each key service, unless told otherwise. The keys
    that were not tried are shown with the reason, and every session that lacks a seal for any of them.
    """
    from donjon.app.keys.check import check_keys

    out = output(json=json, quiet=quiet)
    space = workspace(vault, None, passphrase_file)
    kits = kit or ([space.settings.kit] if space.settings.kit is not None else [])
    with out.progress("Checking") as progress:
        checked = check_keys(space, kits, 0 if all_ else sample, progress)
    unopened = _unopened(checked)
    found = checked.survey
    ok = not (unopened or found.damaged)
    data = {
        "ok": ok,
        "sessions": found.sessions,
        "sealed_to": found.least,
        "keys": [key_data(key) | _data(found.keys[key.recipient_id]) for key in checked.keys],
        "unopened": unopened,
        "damaged": [error.message for error in found.damaged],
        "warnings": checked.warnings,
    }
    out.result(data, "\n".join(_lines(checked, unopened, ok=ok)))
    for warning in checked.warnings:
        out.warn(warning)
    if found.damaged:
        return _INTEGRITY
    return _NO_KEY if unopened else 0


def _unopened(checked: CheckedKeys) -> list[str]:
    """What the keys that were tried do not open."""
    found = []
    for key in checked.keys:
        state = checked.survey.keys[key.recipient_id]
        if not state.not_tried:
            name = key.name or key.recipient_id.hex()[:12]
            found += [f"{session}: was not sealed to {name}" for session in state.missing]
            found += [error.message for error in state.failures if error not in checked.survey.damaged]
    return found


def _data(state: KeyCheck) -> dict[str, object]:
    return {
        "sealed": state.sealed,
        "missing": state.missing,
        "tried": state.tried,
        "opened": state.opened,
        "not_tried": state.not_tried or None,
        "failures": [error.message for error in state.failures],
    }


def _lines(checked: CheckedKeys, unopened: list[str], *, ok: bool) -> list[str]:
    found, count = checked.survey, len(checked.keys)
    to_whom = f"all {count}" if found.least == count else f"{found.least} of {count}"
    lines = [f"{found.sessions} sessions; every session is sealed to {to_whom} recipients"]
    for key in checked.keys:
        state = found.keys[key.recipient_id]
        lacks = f"lacks {len(state.missing)} sessions" if state.missing else "complete"
        tried = f"opened {state.opened} of {state.tried} tried"
        lines.append(
            f"{key_line(key)}  {lacks}; {f'not tried: {state.not_tried}' if state.not_tried else tried}"
        )
    lines.append("Every key that was tried opens what it should." if ok else "Not all of it opens:")
    errors = [*(error.message for error in found.damaged), *unopened]
    lines += [f"  {message}" for message in errors[:_SHOWN]]
    if len(errors) > _SHOWN:
        lines.append(f"  and {len(errors) - _SHOWN} more; --json lists all")
    return lines
