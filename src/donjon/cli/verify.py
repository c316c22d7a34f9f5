"""`donjon verify`: prove that the vault is sound."""

from __future__ import annotations

import os
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
from donjon.cli.evidence import SignOption
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
  donjon verify --kit FILE --data 1 --record --sign eve.auditor
      signed, so that `donjon status` can rely on it

\b
JSON: {"ok", "objects", "bytes", "points", "expired", "packs", "packs_read",
"data_bytes", "recipients", "warnings", "problems": [{"kind", "object", "what", "affects",
"remedy"}], "evidence"}; kind is damaged, missing, unexpected, hidden, suspicious, omitted, rolled
back, forked or reordered; evidence is null if none was signed."""


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
    record: Annotated[
        bool, typer.Option("--record", help="Sign what was found, as evidence in the vault.")
    ] = False,
    sign: SignOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Check the vault: that nothing is missing, damaged, replaced or forged.

    What the storage shows is compared with what this host saw before, and with --witness with checkpoints
    from elsewhere, so that it can neither hide points nor show an older state or another history.

    Without a key every object is checked but the insides of packs. With a key the tree of every point
    is read too, and with --data that share of all data: every byte is compared with its digest. What is
    found bad is not relied on by later backups of this host. With --record what was found is signed evidence
    in the vault, which everybody can check. Ends with 12 if anything is wrong.
    """
    from donjon.app.checks import Verified, verify_and_sign, verify_vault

    out = output(json=json, quiet=quiet, verbose=verbose)
    space = workspace(vault, kit, passphrase_file)
    with out.progress("Verifying") as progress:
        if record:
            done = verify_and_sign(space, data, progress, witness or (), sign=sign, environment=os.environ)
        else:
            done = Verified(verify_vault(space, data, progress, witness or ()))
    report = done.report
    result = {
        "ok": report.ok,
        "objects": report.structure.objects,
        "bytes": report.structure.size_bytes,
        "points": len(report.structure.points),
        "expired": [point_id.hex() for point_id in sorted(report.structure.expired)],
        "packs": len(report.structure.packs),
        "packs_read": report.packs_read,
        "data_bytes": report.data_bytes,
        "recipients": report.recipients,
        "warnings": report.warnings,
        "problems": [finding_row(finding) for finding in report.findings],
        "evidence": done.recorded.signed.digest.hex() if done.recorded else None,
    }
    checked = f"{report.structure.objects} objects, {format_size(report.structure.size_bytes)}"
    depth = "structure only (no key given)"
    if space.has_key or data:
        depth = f"metadata of {report.points_read} points, {format_size(report.data_bytes)} of data"
    if expired := len(report.structure.expired):
        depth += f"; {expired} points expired: their locks ended and their data is gone"
    for warning in report.warnings:
        out.warn(warning)
    if done.recorded is not None:
        depth += f"; evidence {done.recorded.signed.digest.hex()[:12]}"
    if done.failure is not None:
        out.warn(f"not signed: {done.failure.message}")
    if report.ok:
        out.result(result, f"Sound: {checked}; {depth}")
        if done.failure is not None:
            raise done.failure
        return 0
    text = "\n".join(finding_lines(finding) for finding in report.findings)
    out.result(result, f"{text}\n{len(report.findings)} problems in {checked}; {depth}")
    return _INTEGRITY


def finding_row(finding: Finding) -> dict[str, object]:
    """A finding in JSON."""
    return {
        "kind": finding.kind,
        "object": finding.object,
        "what": finding.what,
        "affects": finding.affects,
        "remedy": finding.remedy,
    }


def finding_lines(finding: Finding) -> str:
    """A finding for people."""
    lines = [f"{finding.kind}: {finding.object}: {finding.what}"]
    if finding.affects:
        lines.append(
            f"  affects {len(finding.affects)} points: " + ", ".join(p[:12] for p in finding.affects)
        )
    if finding.remedy:
        lines.append(f"  {finding.remedy}")
    return "\n".join(lines)
