"""`donjon custody plan` and `extend`: keep what is needed under lock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from donjon.cli.common import (
    CustodianOption,
    JsonOption,
    KitOption,
    PassphraseOption,
    QuietOption,
    VaultOption,
    custodian_file,
    output,
    workspace,
)
from donjon.cli.interrupt import stopping
from donjon.cli.output import Output
from donjon.cli.retention import KeepOption
from donjon.core.clock import iso
from donjon.core.units import format_duration, format_size, parse_duration

if TYPE_CHECKING:
    from donjon.app.custody import Planned

_FINDINGS = 4
_OUTLOOK = "What was extended stays so, and is noted; run the command again to extend the rest."

PLAN_EPILOG = """\b
Examples:
  donjon custody plan
  donjon custody plan --keep daily=30 --keep monthly=12 --epoch 3d --prices s3

\b
JSON: {"policy", "epoch_s", "until", "points", "live", "live_packs", "live_bytes",
"due": {"packs", "others", "manifests"}, "requests", "listing_requests",
"cost": {"dollars", "prices", "date", "source"}, "lock_debt", "at_risk",
"risks": [{"kind", "object", "what", "points"}]}; dollars is null where no price is known."""

EXTEND_EPILOG = """\b
Examples:
  donjon custody extend --credential safe.custodian
      every day, by cron or a timer, on a host that backs up nothing
  donjon custody extend --credential safe.custodian --look-first
      after a job of S3 Batch Operations, which `custody plan --s3-batch` wrote down
  donjon custody extend --credential safe.custodian --keep daily=30 --keep monthly=12

\b
JSON: what `donjon custody plan --json` gives, of before the run, and
"done": {"objects", "packs", "points", "epochs", "failed", "until", "lock_debt",
"keeps_times"}."""

EpochOption = Annotated[
    str | None,
    typer.Option("--epoch", metavar="TIME", help="How long a lock lasts before it is extended [lock / 5]."),
]


def plan(
    keep: KeepOption = None,
    epoch: EpochOption = None,
    prices: Annotated[
        str | None, typer.Option("--prices", metavar="s3|gcs|none", help="Price table [by the address].")
    ] = None,
    s3_batch: Annotated[
        Path | None,
        typer.Option(
            "--s3-batch", metavar="FILE", help="Write what is due for a job of S3 Batch Operations."
        ),
    ] = None,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Show which locks are due, what extending takes in requests and money, and what is at risk.

    Needs no key and changes nothing. The lock debt is the number of live points that are protected for less
    than promised; after `donjon custody extend` it is 0. Ends with 4 if anything is at risk: missing, hidden,
    or with its lock ended.
    """
    from donjon.app.custody import plan as make_plan
    from donjon.app.custody import write_batch
    from donjon.plan.retention import parse_policy

    out = output(json=json, quiet=quiet)
    space = workspace(vault, kit, passphrase_file)
    with out.progress("Looking") as progress:
        found = make_plan(space, parse_policy(keep or ()), _epoch_s(epoch), prices, progress)
    if s3_batch is not None:
        write_batch(found, s3_batch)
    _warn(out, found)
    text = _text(found)
    if s3_batch is not None:
        text += f"\nIn {s3_batch} is what a job has to lock until {iso(found.extension.until)}; then run:\n"
        text += "donjon custody extend --look-first"
    out.result(_data(found), text)
    return _FINDINGS if found.extension.risk_count else 0


def extend(
    credential: CustodianOption = None,
    keep: KeepOption = None,
    epoch: EpochOption = None,
    look_first: Annotated[
        bool, typer.Option("--look-first", help="Ask for each lock, and extend what nobody else has.")
    ] = False,
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> int:
    """Lock anew what live points need, at most once an epoch for each object.

    It needs a custodian's credential and no key that opens backups. A run that was interrupted is simply run
    again: it does what is left. Run it every day, and always with the same --keep: what is not kept loses its
    locks in time. Ends with 4 if points stay protected for less than promised, or anything is at risk.
    """
    from donjon.app.custody import extend as lock_anew
    from donjon.plan.retention import parse_policy

    out = output(json=json, quiet=quiet)
    space = workspace(vault, kit, passphrase_file)
    file = custodian_file(credential, "extending locks")
    policy, epoch_s = parse_policy(keep or ()), _epoch_s(epoch)
    with stopping(_OUTLOOK) as stop, out.progress("Extending") as progress:
        found, done = lock_anew(space, file, policy, epoch_s, progress, look_first=look_first, stop=stop)
    _warn(out, found)
    data = _data(found)
    data["done"] = {
        "objects": done.objects,
        "packs": done.packs,
        "points": done.points,
        "epochs": done.epochs,
        "failed": done.failed,
        "until": iso(done.until),
        "lock_debt": done.debt,
        "keeps_times": done.keeps_times,
    }
    out.warn_all([f"{name}: is missing, and could not be locked" for name in done.failed])
    if not done.keeps_times:
        out.warn("the server gives objects that are locked anew the time of that; see docs/guide-s3.md")
    text = f"Locked {done.objects} objects until {iso(done.until)}, {done.packs} of them packs."
    if not done.objects:
        text = "Nothing was due."
    out.result(data, f"{text} {_live(found)}; lock debt {done.debt}")
    return _FINDINGS if done.debt or found.extension.risk_count else 0


def _epoch_s(text: str | None) -> int | None:
    return None if text is None else parse_duration(text)


def _warn(out: Output, found: Planned) -> None:
    for error in found.view.damaged:
        out.warn(f"{error.message}; see `donjon verify`")
    extension = found.extension
    out.warn_all([f"at risk: {risk.object}: {risk.what}" for risk in extension.risks])
    if (more := extension.risk_count - len(extension.risks)) > 0:
        out.warn(f"{more} more objects are at risk")


def _data(found: Planned) -> dict[str, object]:
    extension, prices = found.extension, found.prices
    return {
        "policy": str(found.policy),
        "epoch_s": found.epoch_s,
        "until": iso(extension.until),
        "points": len(found.view.standings),
        "live": extension.live,
        "live_packs": extension.live_packs,
        "live_bytes": extension.live_bytes,
        "due": {
            "packs": len(extension.packs),
            "others": len(extension.support),
            "manifests": len(extension.manifests),
        },
        "requests": extension.requests,
        "listing_requests": found.listing,
        "cost": {
            "dollars": found.dollars,
            "prices": prices.name if prices else None,
            "date": prices.date if prices else None,
            "source": prices.source if prices else None,
        },
        "lock_debt": extension.debt,
        "at_risk": extension.risk_count,
        "risks": [
            {"kind": risk.kind, "object": risk.object, "what": risk.what, "points": risk.points}
            for risk in extension.risks
        ],
    }


def _live(found: Planned) -> str:
    extension = found.extension
    size = format_size(extension.live_bytes)
    return (
        f"{extension.live} of {len(found.view.standings)} points live, {extension.live_packs} packs, {size}"
    )


def _text(found: Planned) -> str:
    extension = found.extension
    cost = "unknown, as there is no price table for this store" if found.dollars is None else _cost(found)
    return f"""{_live(found)}, under the policy: {found.policy}
  due        {len(extension.packs)} packs, {len(extension.support)} objects they hang on, \
{len(extension.manifests)} manifests
  requests   {extension.requests}, and {found.listing} to list the vault
  cost       {cost}
  epoch      {format_duration(found.epoch_s)}; locks would end at {iso(extension.until)}
  lock debt  {extension.debt} points
  at risk    {extension.risk_count} objects"""


def _cost(found: Planned) -> str:
    prices = found.prices
    if prices is None or not prices.date:
        return "none, on a medium of one's own"
    return f"${found.dollars:.2f} ({prices.source}, {prices.date})"
