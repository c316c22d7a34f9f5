"""`donjon verify`: prove that the vault is sound."""

from __future__ import annotations

from typing import Annotated

import typer

from donjon.cli.common import (
    JsonOption,
    KitOption,
    PassphraseOption,
    QuietOption,
    VaultOption,
    VerboseOption,
    output,
    workspace,
)
from donjon.core.units import format_size
from donjon.repository.check import Finding

_INTEGRITY = 12

EPILOG = """\b
Examples:
  donjon verify                      structure and signatures, without any key
  donjon verify --kit FILE           also the metadata of every point
  donjon verify --kit FILE --data 5  also 5 percent of all data, others each time
  donjon verify --witness /media/usb/checkpoint
      also whether all points that the custodian saw are still shown

\b
JSON: {"ok", "objects", "bytes", "points", "packs", "packs_read", "data_bytes",
"problems": [{"kind", "object", "what", "affects", "remedy"}]}; kind is damaged,
missing, unexpected, hidden, suspicious, omitted, rolled back, forked or reordered."""


def verify(
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    data: Annotated[
        float, typer.Option("--data", metavar="PERCENT", min=0, max=100, help="Share of the data to read.")
    ] = 0,
    witness: Annotated[
        list[str] | None,
        typer.Option("--witness", metavar="URL|FILE", help="Compare with a checkpoint there; repeatable."),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Check the vault: that nothing is missing, damaged, replaced or forged.

    What the storage shows is compared with what this host saw before, and with --witness with checkpoints
    from elsewhere, so that it can neither hide points nor show an older state or another history.

    Without a key every object is checked but the insides of packs. With a key the tree of every point
    is read too, and with --data that share of all data: every byte is compared with its digest. What is
    found bad is not relied on by later backups of this host. Ends with 12 if anything is wrong.
    """
    from donjon.app.checks import verify_vault

    out = output(json=json, quiet=quiet, verbose=verbose)
    space = workspace(vault, kit, passphrase_file)
    with out.progress("Verifying") as progress:
        report = verify_vault(space, data, progress, witness or ())
    result = {
        "ok": report.ok,
        "objects": report.structure.objects,
        "bytes": report.structure.size_bytes,
        "points": len(report.structure.points),
        "packs": len(report.structure.packs),
        "packs_read": report.packs_read,
        "data_bytes": report.data_bytes,
        "problems": [_row(finding) for finding in report.findings],
    }
    checked = f"{report.structure.objects} objects, {format_size(report.structure.size_bytes)}"
    depth = "structure only (no key given)"
    if space.has_key:
        depth = f"metadata of {report.points_read} points, {format_size(report.data_bytes)} of data"
    if report.ok:
        out.result(result, f"Sound: {checked}; {depth}")
        return 0
    text = "\n".join(_lines(finding) for finding in report.findings)
    out.result(result, f"{text}\n{len(report.findings)} problems in {checked}; {depth}")
    return _INTEGRITY


def _row(finding: Finding) -> dict[str, object]:
    return {
        "kind": finding.kind,
        "object": finding.object,
        "what": finding.what,
        "affects": finding.affects,
        "remedy": finding.remedy,
    }


def _lines(finding: Finding) -> str:
    lines = [f"{finding.kind}: {finding.object}: {finding.what}"]
    if finding.affects:
        lines.append(
            f"  affects {len(finding.affects)} points: " + ", ".join(p[:12] for p in finding.affects)
        )
    if finding.remedy:
        lines.append(f"  {finding.remedy}")
    return "\n".join(lines)
