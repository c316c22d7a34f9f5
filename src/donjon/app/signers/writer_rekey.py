"""A new key for a writer whose key is lost or stolen: made here, and approvers are asked to allow it."""

from __future__ import annotations

import os
from pathlib import Path

from donjon.app.approvals.requests import Asking, ask
from donjon.app.approvals.views import Asked
from donjon.app.setup import show_labels
from donjon.app.signers.certified import WRITER, find_signer
from donjon.app.wiring import Workspace
from donjon.codec.sign import SigningKey
from donjon.core.errors import IntegrityFailure, PointNotFound, Refused
from donjon.repository.allowed_keys import next_key
from donjon.repository.approvals import require_approvers
from donjon.repository.credential import WriterCredential
from donjon.repository.points import Point, list_points, point_by_id
from donjon.repository.vault import Vault

LATEST, NONE = "latest", "none"


def ask_for_key(workspace: Workspace, wanted: str, last: str, out: Path, asking: Asking) -> Asked:
    """Make the next key of a writer, its credential in ``out``, and ask the approvers to let it sign.

    ``last`` names the last point of the writer that counts: an id, or the start of one, ``latest`` or
    ``none``. Raises ``UsageError`` if no writer or several fit, ``PointNotFound``, ``KeyNotAvailable``
    without a key of the vault, ``PermissionMissing`` for a revoked writer, ``Refused`` without approvers.
    """
    if os.path.lexists(out):
        raise Refused(f"{out}: exists already", hint="Name a file that does not exist yet.")
    vault = workspace.open()
    require_approvers(vault)
    show_labels(workspace, vault)
    writer, label = find_signer(vault, WRITER, wanted)
    point = _last_point(vault, writer.writer_id, last)
    key = SigningKey.generate()
    allowed = next_key(vault, writer.writer_id, key.public, point)
    credential = WriterCredential(
        vault_id=vault.vault_id,
        url=vault.store.url,
        name=label,
        root_public=vault.object.root_public,
        seed=key.seed,
        secret=vault.secret.secret,
        writer_id=writer.writer_id,
        key_number=allowed.number,
    )
    credential.write(out)
    try:
        return ask(workspace, vault, allowed, asking)
    except BaseException:
        out.unlink()
        raise


def _last_point(vault: Vault, writer: bytes, last: str) -> Point | None:
    if last == NONE:
        return None
    damaged: list[IntegrityFailure] = []
    points = [point for point in list_points(vault, damaged) if point.manifest.writer == writer]
    if last != LATEST:
        return point_by_id(vault, points, last.lower())
    if damaged:
        msg = f"{damaged[0].message}; so {last!r} may mean an older point than it should"
        raise IntegrityFailure(msg, hint="Name the point by its id; `donjon points` shows them.")
    if not points:
        msg = f"{writer.hex()[:12]}: has no point"
        raise PointNotFound(msg, hint="Give --last none.")
    return max(points, key=lambda point: point.manifest.sequence)
