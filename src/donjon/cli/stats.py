"""`donjon stats`: how large the vault is, and what it saves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from donjon.cli.common import (
    JsonOption,
    KitOption,
    PassphraseOption,
    VaultOption,
    VerboseOption,
    output,
    workspace,
)
from donjon.cli.output import visible
from donjon.core.clock import iso
from donjon.core.units import format_duration, format_size

if TYPE_CHECKING:
    from donjon.app.stats import Contents, Stats
    from donjon.cli.output import Output

EPILOG = """\b
Examples:
  donjon stats                        sizes of what is stored; needs no key
  donjon stats --kit vault.kit        with ratios, and what each workload takes
  donjon stats --kit vault.kit -v     with the growth from point to point

\b
JSON: {"url", "objects", "bytes", "kinds": {KIND: {"objects", "bytes"}}, "points", "writers",
"recipients", "lock_s", "lock_enforcement", "warnings"}; with a key also
{"logical_bytes", "unique_bytes", "pack_bytes", "dedup_ratio", "compression_ratio",
"workloads": [{"workload", "points", "first", "last", "last_bytes", "logical_bytes", "stored_bytes"}],
"growth": [{"id", "time", "workload", "logical_bytes", "stored_bytes", "total_stored_bytes"}]}."""


def stats(
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> int:
    """Show sizes, what deduplication and compression save, and growth.

    Without a key only what is open: objects, bytes and the number of points. Stored bytes are those of the
    objects themselves; what a file system or a provider adds is not counted.
    """
    from donjon.app.stats import vault_stats

    out = output(json=json, verbose=verbose)
    with out.progress("Counting") as progress:
        found = vault_stats(workspace(vault, kit, passphrase_file), progress)
    out.result(_data(found), "")
    if not json:
        _print(out, found)
    for warning in found.warnings:
        out.warn(warning)
    return 0


def _data(found: Stats) -> dict[str, object]:
    data: dict[str, object] = {
        "url": found.url,
        "objects": found.total.objects,
        "bytes": found.total.size_bytes,
        "kinds": {
            kind: {"objects": amount.objects, "bytes": amount.size_bytes}
            for kind, amount in sorted(found.kinds.items())
        },
        "points": found.points,
        "writers": found.writers,
        "recipients": found.recipients,
        "warnings": found.warnings,
        "lock_s": found.lock_s,
        "lock_enforcement": found.lock_enforcement,
    }
    if (contents := found.contents) is None:
        return data
    return data | {
        "logical_bytes": contents.logical_bytes,
        "unique_bytes": contents.unique_bytes,
        "pack_bytes": contents.pack_bytes,
        "dedup_ratio": round(contents.dedup_ratio, 3),
        "compression_ratio": round(contents.compression_ratio, 3),
        "workloads": [
            {
                "workload": workload.name,
                "points": workload.points,
                "first": iso(workload.first),
                "last": iso(workload.last),
                "last_bytes": workload.last_bytes,
                "logical_bytes": workload.logical_bytes,
                "stored_bytes": workload.stored_bytes,
            }
            for workload in contents.workloads
        ],
        "growth": _growth(contents),
    }


def _locks(found: Stats) -> str:
    from donjon.app.locks import WEAKNESS

    if not found.lock_s:
        return "none"
    text = f"{format_duration(found.lock_s)}, enforcement: {found.lock_enforcement or 'unknown'}"
    weakness = WEAKNESS.get(found.lock_enforcement or "")
    return f"{text} ({weakness})" if weakness else text


def _growth(contents: Contents) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    total = 0
    for point in contents.points:
        total += point.body.bytes_stored
        rows.append(
            {
                "id": point.point_id.hex(),
                "time": iso(point.point.time),
                "workload": point.body.workload,
                "logical_bytes": point.body.size_bytes,
                "stored_bytes": point.body.bytes_stored,
                "total_stored_bytes": total,
            }
        )
    return rows


def _print(out: Output, found: Stats) -> None:
    total = found.total
    out.line(f"{found.url}")
    out.line(f"  stored   {format_size(total.size_bytes)} in {total.objects} objects")
    if out.verbose:
        for kind, amount in sorted(found.kinds.items()):
            out.line(f"           {format_size(amount.size_bytes):>10}  {amount.objects:>6} {kind}")
    out.line(f"  points   {found.points} by {found.writers} writers")
    out.line(f"  keys     {found.recipients} that open it")
    out.line(f"  locks    {_locks(found)}")
    contents = found.contents
    if contents is None:
        out.line("Ratios and workloads need the kit (--kit FILE or DONJON_KIT) or --passphrase-file.")
        return
    out.line(f"  files    {format_size(contents.logical_bytes)} in all points together")
    out.line(
        f"  unique   {format_size(contents.unique_bytes)}: deduplicated {contents.dedup_ratio:.1f} to 1, "
        f"compressed {contents.compression_ratio:.1f} to 1"
    )
    if contents.workloads:
        out.line("")
        out.line(f"{'POINTS':>6}  {'NEWEST':>10}  {'ADDED':>10}  {'SINCE':<20}  {'UNTIL':<20}  WORKLOAD")
    for row in contents.workloads:
        out.line(
            f"{row.points:>6}  {format_size(row.last_bytes):>10}  {format_size(row.stored_bytes):>10}  "
            f"{iso(row.first):<20}  {iso(row.last):<20}  {visible(row.name.encode())}"
        )
    if out.verbose and contents.points:
        out.line("")
        out.line(f"{'TIME':<20}  {'SIZE':>10}  {'ADDED':>10}  WORKLOAD")
        for point in contents.points:
            body = point.body
            out.line(
                f"{iso(point.point.time):<20}  {format_size(body.size_bytes):>10}  "
                f"{format_size(body.bytes_stored):>10}  {visible(body.workload.encode())}"
            )
