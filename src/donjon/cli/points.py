"""`donjon points`: list recovery points."""

from __future__ import annotations

from donjon.cli.common import JsonOption, KitOption, PassphraseOption, VaultOption, output, workspace
from donjon.core.clock import iso
from donjon.core.units import format_size


def points(
    vault: VaultOption = None,
    kit: KitOption = None,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> int:
    """List recovery points, newest last."""
    from donjon.repository.points import list_points, open_point

    out = output(json=json)
    space = workspace(vault, kit, passphrase_file)
    opened = space.open_for_reading()
    rows = []
    for point in list_points(opened):
        body = open_point(opened, point).body
        locked = point.manifest.protected_until
        rows.append(
            {
                "id": point.point_id.hex(),
                "workload": body.workload,
                "time": iso(point.time),
                "files": body.files,
                "bytes": body.size_bytes,
                "locked_until": iso(locked) if locked else None,
                "tags": body.tags,
                "host": body.host,
                "errors": body.problem_count,
            }
        )
        out.line(
            f"{point.point_id.hex()[:12]}  {iso(point.time)}  {body.files:>9}  {format_size(body.size_bytes):>10}  {body.workload}"
        )
    out.result({"points": rows}, "")
    return 0
