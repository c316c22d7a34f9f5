"""`donjon custody reap`: delete what nothing needs and no lock holds, in two steps."""

from __future__ import annotations

from collections import Counter
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
from donjon.cli.retention import KeepOption
from donjon.core.clock import iso
from donjon.core.units import format_size, parse_duration

_OUTLOOK = "What was deleted is gone; apply the plan again to delete the rest."

_PLAN_EPILOG = """\b
Examples:
  donjon custody reap plan --keep daily=30 --keep monthly=12 --out reap.plan
      a week later: donjon custody reap apply reap.plan

\b
JSON: {"file", "policy", "objects", "bytes", "packs", "index", "covers", "waiting",
"waiting_bytes", "apply_after", "unsettled"}."""

_APPLY_EPILOG = """\b
Examples:
  donjon custody reap apply reap.plan

\b
JSON: {"deleted", "deleted_bytes", "planned", "kept": [{"object", "why"}]}."""

app = typer.Typer(
    help="Delete what nothing needs and no lock holds: plan, wait, apply.", no_args_is_help=True
)


@app.command("plan", epilog=_PLAN_EPILOG)
def plan(
    out_file: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write the plan.")],
    keep: KeepOption = None,
    grace: Annotated[
        str, typer.Option("--grace", metavar="TIME", help="How long nobody may apply it.")
    ] = "7d",
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Write down what may be deleted once the grace time is over. Needs no key, and deletes nothing.

    Only packs whose lock has ended by the store's clock, and that neither a live point nor one that is still
    locked needs; index objects of packs that are gone; delete markers and versions laid over objects. The
    plan is text: look at it. It is sealed, so that only this host's own plans are carried out.
    """
    from donjon.app.reaping import make_plan
    from donjon.plan.retention import parse_policy

    out = output(json=json, quiet=quiet)
    space = workspace(vault, kit, passphrase_file)
    with out.progress("Looking") as progress:
        made = make_plan(space, parse_policy(keep or ()), parse_duration(grace), out_file, progress)
    reaping = made.reaping
    kinds = Counter(item.why for item in reaping.doomed)
    data = {
        "file": str(out_file.absolute()),
        "policy": str(made.plan.policy),
        "objects": len(reaping.doomed),
        "bytes": reaping.size_bytes,
        "packs": kinds["pack"],
        "index": kinds["index"],
        "covers": kinds["cover"],
        "waiting": reaping.waiting,
        "waiting_bytes": reaping.waiting_bytes,
        "apply_after": iso(made.plan.apply_after),
        "unsettled": [writer.hex() for writer in sorted(reaping.unsettled)],
    }
    for error in made.view.damaged:
        out.warn(f"{error.message}; see `donjon verify`")
    for writer in sorted(reaping.unsettled):
        out.warn(f"writer {writer.hex()[:12]}: manifests are missing or damaged; nothing of it is deleted")
    text = f"""{len(reaping.doomed)} objects may go, {format_size(reaping.size_bytes)}, under the policy: \
{made.plan.policy}
  {reaping.waiting} packs more, {format_size(reaping.waiting_bytes)}, once their locks have ended
Look at {out_file}. Nothing is deleted before {iso(made.plan.apply_after)}; then:
donjon custody reap apply {out_file}"""
    out.result(data, text)
    return 0


@app.command("apply", epilog=_APPLY_EPILOG)
def apply(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `donjon custody reap plan` wrote.")],
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Delete what the plan names and a fresh look at the vault agrees on.

    Needs the store's permission to delete versions, and no key. What is needed or locked by now is kept and
    told. A run that was interrupted is run again. Refuses a plan of another vault or host, a changed one,
    one whose grace time is not over, and one that is over 30 days past it.
    """
    from donjon.app.reaping import apply_plan

    out = output(json=json, quiet=quiet)
    space = workspace(vault, kit, passphrase_file)
    with stopping(_OUTLOOK) as stop, out.progress("Reaping") as progress:
        planned, done = apply_plan(space, file, progress, stop)
    data = {
        "deleted": done.deleted,
        "deleted_bytes": done.deleted_bytes,
        "planned": len(planned.doomed),
        "kept": [{"object": name, "why": why} for name, why in done.kept],
    }
    out.warn_all([f"{name}: kept: {why}" for name, why in done.kept])
    size = format_size(done.deleted_bytes)
    out.result(data, f"Deleted {done.deleted} of {len(planned.doomed)} objects, {size}")
    return 0
