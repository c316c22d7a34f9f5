"""Signs checkpoints: the custodian's part. See ``docs/format.md``, section 20."""

from __future__ import annotations

from collections.abc import Sequence

from donjon.core.errors import IntegrityFailure, ObjectExists, Refused
from donjon.format import names
from donjon.format.checkpoint import NO_CHECKPOINT, Chain, Checkpoint, Row, chain
from donjon.format.objects import ObjectKind, pack_object
from donjon.repository.check import Finding
from donjon.repository.checkpoints import Signed, from_newest, is_revoked, parse_checkpoint
from donjon.repository.credential import CustodianCredential
from donjon.repository.fetch import fetch_object
from donjon.repository.points import Point, list_points
from donjon.repository.vault import Vault
from donjon.repository.witness import OMITTED, ROLLED_BACK, contradictions

_ATTEMPTS = 8


def sign_checkpoint(
    vault: Vault,
    credential: CustodianCredential,
    pinned: tuple[int, str],
    *,
    accept_removed: bool = False,
) -> tuple[Signed, list[str]]:
    """Look at all manifests, sign what there is, and put it into the vault under the next number.

    ``pinned`` is number and digest, in hexadecimal, of the last checkpoint that this client saw. With
    ``accept_removed`` points may be gone whose protection has ended; their ids come back too.

    Raises ``IntegrityFailure`` if the vault contradicts the checkpoint before, ``Refused`` if others keep
    signing at the same time.
    """
    for _ in range(_ATTEMPTS):
        signed, gone = _draft(vault, credential, pinned, accept_removed=accept_removed)
        name = names.checkpoint(signed.number)
        try:
            vault.store.put(name, signed.data, retain_until=vault.lock_end())
        except ObjectExists:
            if fetch_object(vault.store, name, ObjectKind.CHECKPOINT) != signed.data:
                continue  # another custodian was first; else only the reply to our put was lost
        return signed, gone
    msg = "checkpoints: somebody else is signing them at the same time"
    raise Refused(msg, hint="Wait a moment and run the command again.")


def _draft(
    vault: Vault, credential: CustodianCredential, pinned: tuple[int, str], *, accept_removed: bool
) -> tuple[Signed, list[str]]:
    """The next checkpoint, and the ids of points that it leaves out though the one before had them."""
    # The ones before are read first: points come between, but none that they name goes.
    last, trusted = _last_two(vault, pinned)
    now = vault.store.now()
    vault.keyring.read_on(vault.store)
    points = list_points(vault)
    removed: list[str] = []
    for finding in contradictions(trusted, points) if trusted else ():
        if not (accept_removed and _may_be_gone(finding, trusted, now)):
            raise _contradiction(finding)
        removed += finding.affects
    checkpoint = Checkpoint(
        credential.custodian_id,
        last.number + 1 if last else 1,
        last.digest if last else NO_CHECKPOINT,
        now,
        vault.keyring.number,
        vault.keyring.head,
        tuple(_chains(points, trusted)),
    )
    data = pack_object(ObjectKind.CHECKPOINT, checkpoint, vault.vault_id, credential.signing_key)
    return parse_checkpoint(vault, data, names.checkpoint(checkpoint.number)), removed


def _last_two(vault: Vault, pinned: tuple[int, str]) -> tuple[Signed | None, Signed | None]:
    """The newest checkpoint, and the newest that counts. Raises ``IntegrityFailure`` for a rollback."""
    last: Signed | None = None
    trusted: Signed | None = None
    for signed in from_newest(vault):
        last = last or signed
        if signed.number == pinned[0] and signed.digest.hex() != pinned[1]:
            msg = f"{signed.where}: is another checkpoint than the one that this host saw"
            raise IntegrityFailure(msg, hint="The store shows two histories. Do not trust it.")
        if trusted is None and not is_revoked(vault, signed):
            trusted = signed
        if trusted is not None and signed.number <= pinned[0]:
            break
    newest = last.number if last else 0
    if newest < pinned[0]:
        msg = f"{names.checkpoint(pinned[0])}: is not shown, though this host saw it"
        raise IntegrityFailure(msg, hint="The store shows an older state. Do not trust it.")
    return last, trusted


def _may_be_gone(finding: Finding, before: Signed | None, now: int) -> bool:
    """Whether points that are missing may have been removed on purpose: their protection has ended."""
    if finding.kind not in (OMITTED, ROLLED_BACK) or before is None:
        return False
    until = {
        row.point_id.hex(): row.protected_until for kept in before.checkpoint.chains for row in kept.rows()
    }
    return all(until[point_id] <= now for point_id in finding.affects)


def _contradiction(finding: Finding) -> IntegrityFailure:
    affected = ", ".join(point_id[:12] for point_id in finding.affects)
    msg = f"{finding.object}: {finding.kind}: {finding.what} (points {affected})"
    return IntegrityFailure(msg, hint=f"No checkpoint was signed. {finding.remedy}")


def _chains(points: Sequence[Point], before: Signed | None) -> list[Chain]:
    by_writer: dict[bytes, list[Point]] = {}
    for point in points:
        by_writer.setdefault(point.manifest.writer, []).append(point)
    ends = {kept.writer: (kept.last, kept.head) for kept in before.checkpoint.chains} if before else {}
    chains = []
    for writer in sorted(by_writer.keys() | ends.keys()):
        mine = sorted(by_writer.get(writer, ()), key=lambda point: point.manifest.sequence)
        rows = [
            Row(p.manifest.sequence, max(p.time, 0), max(p.manifest.protected_until, 0), p.point_id)
            for p in mine
        ]
        last, head = max([ends.get(writer, (0, b"")), *((row.sequence, row.point_id) for row in rows)])
        chains.append(chain(writer, last, head, rows))
    return chains
