"""`donjon keys rotate`: a new key takes the place of an old one."""

from __future__ import annotations

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
from donjon.cli.key_lines import SingleOption, key_data, reach_data, resealed_data, still_open, worst
from donjon.cli.requests import NOT_APPROVED, pending_text, request_data

EPILOG = """\b
Examples:
  donjon keys rotate "second kit" --out third.kit --revoke-old --kit vault.kit
  donjon keys rotate office --new-passphrase-file F --revoke-old --kit vault.kit
  donjon keys rotate aws --to aws-kms:arn:aws:kms:REGION:ACCOUNT:key/ID --kit vault.kit

If it is cut off, run the same command again: it goes on from there.

\b
JSON: {"id", "kind", "name", "created", "uri", "sessions", "sealed", "failed", "old", "revoked",
"still_opens", "kit", "fingerprint", "warnings", "request"}; id and what follows it is the new key, old the id
of the old one, still_opens as `donjon keys revoke` tells it, null unless the old key was revoked. If
approvers have to allow that first, it ends with 11, and request is as for `donjon approve show`."""


def rotate(
    key: Annotated[
        str, typer.Argument(metavar="ID|NAME", help="The old key, as `donjon keys list` shows it.")
    ],
    out_file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to save the new kit; keep it offline.")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="URI", help="The new key of a key service.")
    ] = None,
    new_passphrase_file: Annotated[
        Path | None,
        typer.Option(
            "--new-passphrase-file",
            metavar="FILE",
            help="The new passphrase; with --out that of the new kit.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="What to call the new key [the old name with a number].")
    ] = None,
    with_root: Annotated[
        bool, typer.Option("--with-root", help="Put the root key on the new kit, too.")
    ] = False,
    revoke_old: Annotated[
        bool,
        typer.Option("--revoke-old", help="Seal nothing to the old key any more, once all is sealed anew."),
    ] = False,
    single_recipient: SingleOption = False,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Let a new key take the place of an old one. Needs the kit with the root key.

    New backups are sealed to the new key, old ones get one more seal; nothing is rewritten. Without
    --revoke-old the old key stays until `donjon keys revoke`, so that the new one can be tried first. A kit
    is rotated with a new kit, a passphrase with a new one, a key of a key service with another key there.

    If the old kit is the one given with --kit, the new one holds the root key as well; the root key itself
    stays the same, and with it the power of whoever has an old copy to decide over keys and writers.
    """
    from donjon.app.keys.rotation import Replacement, rotate_key
    from donjon.keys.passphrase import passphrase_from_file

    out = output(json=json, quiet=quiet)
    phrase = passphrase_from_file(new_passphrase_file) if new_passphrase_file else None
    new = Replacement(
        kit=out_file,
        kit_passphrase=phrase if out_file else None,
        passphrase=None if out_file else phrase,
        uri=to,
        name=name,
        with_root=with_root,
    )
    space = workspace(vault, kit, passphrase_file)
    with out.progress("Sealing") as progress:
        done = rotate_key(space, key, new, progress, revoke_old=revoke_old, single_recipient=single_recipient)
    old, resealed = done.old, done.resealed
    revoked = old is None or done.reach is not None
    data = (
        key_data(done.new)
        | resealed_data(resealed)
        | {
            "old": old.recipient_id.hex() if old is not None else None,
            "revoked": revoked,
            "still_opens": reach_data(done.reach) if done.reach is not None else None,
            "kit": str(out_file.absolute()) if out_file else None,
            "fingerprint": done.fingerprint or None,
            "warnings": done.warnings,
            "request": request_data(done.pending.asked) if done.pending else None,
        }
    )
    sealed = f"{resealed.sessions - len(resealed.failures)} of {resealed.sessions} earlier ones"
    lines = [f"{done.new.name} ({done.new.kind}) opens all new backups, and {sealed}"]
    if out_file:
        lines += [
            f"  fingerprint  {done.fingerprint}",
            f"  kit          {out_file}; move it off this host now",
        ]
    if old is None:
        lines.append("The old key was revoked already.")
    elif done.pending is not None:
        lines.append(pending_text(done.pending, None, f"donjon keys revoke {old.recipient_id.hex()[:12]}"))
    elif done.reach is not None:
        lines += [f"Revoked {old.name}: new backups are not sealed to it.", still_open(done.reach)]
    else:
        lines.append(
            f"{old.name} opens new backups too, until you try the new key and `donjon keys revoke` the old."
        )
    out.result(data, "\n".join(lines))
    if resealed.failures:
        out.warn(
            "some sessions could not be sealed to the new key, so the old one stays; see `donjon keys check`"
        )
    for warning in done.warnings:
        out.warn(warning)
    return worst(resealed) or (NOT_APPROVED if done.pending else 0)
