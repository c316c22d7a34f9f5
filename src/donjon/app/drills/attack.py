"""The attack drill as every interface offers it: who attacks, with what, and what becomes of the result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from donjon.app.drills.stores import Wanted, attacking
from donjon.app.evidence import Recorded, record_or_tell, recorder_for, signing_key
from donjon.app.wiring import Workspace
from donjon.core.errors import DonjonError, KeyNotAvailable, UsageError
from donjon.core.events import Progress, StopCheck
from donjon.drills.base import Report
from donjon.drills.canaries import MakeCanary, canary_evidence, canary_pack
from donjon.format.evidence import passed
from donjon.repository.credential import WriterCredential
from donjon.repository.vault import Vault

KIND = "attack-drill"


@dataclass(slots=True)
class Drilled:
    """What came of it. ``subject`` is the vault and who attacked it; ``failure`` is why it was not signed."""

    subject: str
    report: Report
    recorded: Recorded | None = None
    failure: DonjonError | None = None

    @property
    def has_passed(self) -> bool:
        """Whether something was tried and nothing went through."""
        return passed(tuple(self.report.rows))


def attack(
    workspace: Workspace,
    wanted: Wanted,
    environment: Mapping[str, str],
    progress: Progress,
    stop: StopCheck,
) -> Drilled:
    """Attack the vault, and sign what was seen.

    Raises ``UsageError`` for an attack that is not known or a profile where there are none, and what stores
    and the provider raise; then nothing is signed.
    """
    from donjon.app.drills.keys import attack_other_keys
    from donjon.drills.scratch import attack_scratch

    _check_names(wanted.accepted)
    vault = workspace.open()
    recorder = recorder_for(wanted, workspace, vault, environment)
    make = _canaries(workspace, vault, wanted.sign, environment)
    report = Report()
    with attacking(vault, wanted, make, report, stop) as (who, rows):
        subject = f"{vault.store.url} as {wanted.role}{who}"
        for row in rows:
            progress.advance(items=1, current=row.tried)
        for row in attack_other_keys(vault, wanted, report, stop):
            progress.advance(items=1, current=row.tried)
        for row in attack_scratch(report, wanted.accepted):
            stop()
            progress.advance(items=1, current=row.tried)
    done = Drilled(subject, report)
    done.recorded, done.failure = record_or_tell(recorder, KIND, subject, report.rows)
    return done


def attack_names() -> list[str]:
    """The names of all attacks, as ``Wanted.accepted`` takes them."""
    from donjon.drills import azure, azure_keys, files, gcp_keys, gcs, kms, s3, scratch, sftp

    listed = (
        *s3.ATTACKS,
        *kms.ATTACKS,
        *azure_keys.SERVICE.attacks,
        *gcp_keys.SERVICE.attacks,
        *azure.attacks(None, ""),
        *gcs.attacks(None, ""),
        *files.attacks(Path()),
        *sftp.attacks(None),
    )
    return sorted({*(attack.name for attack, _ in listed), *scratch.ATTACKS})


def _check_names(accepted: frozenset[str]) -> None:
    if unknown := sorted(accepted - set(attack_names())):
        msg = f"there is no attack {unknown[0]!r}"
        raise UsageError(msg, hint=f"The attacks are {', '.join(attack_names())}.")


def _canaries(
    workspace: Workspace, vault: Vault, sign: Path | None, environment: Mapping[str, str]
) -> MakeCanary:
    """Packs of this host's writer, else evidence of whoever signs."""
    path = workspace.home.writer_path(vault.vault_id)
    if path.exists():
        credential = WriterCredential.read(path)
        writer = vault.keyring.writers.get(credential.writer_id)
        if writer is not None and writer.revoked_at is None:
            return lambda: canary_pack(vault.vault_id, credential)
    try:
        key = signing_key(workspace, vault, sign, environment)
    except KeyNotAvailable as error:
        msg = "there is no credential here that could sign canaries"
        raise KeyNotAvailable(msg, hint=error.hint) from error
    return lambda: canary_evidence(vault, key)
