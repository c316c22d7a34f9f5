"""Verifying a vault, as every interface offers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from donjon.app.checkpoints import judge_vault, read_witnesses
from donjon.app.evidence import Recorded, Recorder, record_or_tell
from donjon.app.evidence_rows import VERIFY, verify_rows
from donjon.app.wiring import Workspace
from donjon.core.errors import DonjonError
from donjon.core.events import Progress
from donjon.format.evidence import MAX_TEXT_BYTES, fitting
from donjon.repository.check import Structure
from donjon.repository.index import Index
from donjon.repository.recipients import FEWEST, poorly_sealed, weaknesses
from donjon.repository.vault import Vault
from donjon.repository.verify import Report, remember_bad_packs, verify_content, verify_structure


@dataclass(slots=True)
class Verified:
    """What was found, and the evidence of it if it was signed. ``failure`` is why it was not."""

    report: Report
    recorded: Recorded | None = None
    failure: DonjonError | None = None


def verify_vault(
    workspace: Workspace, data_percent: float, progress: Progress, witnesses: Sequence[str] = ()
) -> Report:
    """Check the structure, with a key also the metadata and this share of the data.

    What the vault shows is compared with what this host saw before, and with the checkpoints in the places
    ``witnesses``: addresses of stores, folders or files.

    Raises ``KeyNotAvailable`` if data is to be read and no key is at hand.
    """
    return verify_opened(workspace, workspace.open(), data_percent, progress, witnesses)


def verify_and_sign(
    workspace: Workspace,
    data_percent: float,
    progress: Progress,
    witnesses: Sequence[str] = (),
    *,
    sign: Path | None,
    environment: Mapping[str, str],
) -> Verified:
    """The same, and what was found is signed as evidence, with a credential as ``Recorder`` takes it.

    Raises ``KeyNotAvailable`` also if nobody is there to sign.
    """
    vault = workspace.open()
    recorder = Recorder(workspace, vault, credential=sign, environment=environment, out=None)
    done = Verified(verify_opened(workspace, vault, data_percent, progress, witnesses))
    rows = verify_rows(done.report, data_percent, with_key=bool(vault.openers))
    subject = fitting(vault.store.url, MAX_TEXT_BYTES)
    done.recorded, done.failure = record_or_tell(recorder, VERIFY, subject, rows)
    return done


def verify_opened(
    workspace: Workspace,
    vault: Vault,
    data_percent: float,
    progress: Progress,
    witnesses: Sequence[str] = (),
) -> Report:
    """The same for a vault that is open."""
    if workspace.has_key or data_percent:
        workspace.unlock(vault)
    elsewhere = read_witnesses(vault, witnesses)  # before the points are listed, as points come between
    report = verify_structure(vault, progress)
    report.recipients = len(vault.keyring.members)
    report.warnings = too_few_keys(vault, report.structure)
    report.findings += judge_vault(workspace, vault, elsewhere, report.structure)
    if vault.openers:
        verify_content(vault, workspace.reader(vault, progress), report, data_percent, progress)
    remember_bad_packs(Index(workspace.cache(vault)), report)
    return report


def too_few_keys(vault: Vault, structure: Structure) -> list[str]:
    """What leaves the vault, or sessions of it, with fewer than two keys that open them; for people."""
    members = vault.keyring.members
    found = weaknesses(member.recipient for member in members.values())
    poor = poorly_sealed(structure.sealed_to, members)
    if poor and len(members) >= FEWEST:
        found.append(
            f"{len(poor)} sessions are sealed to one key alone, as {poor[0]}: "
            "`donjon keys reseal` seals them to all keys"
        )
    return found
