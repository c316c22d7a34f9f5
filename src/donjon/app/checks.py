"""Verifying a vault, as every interface offers it."""

from __future__ import annotations

from collections.abc import Sequence

from donjon.app.checkpoints import judge_vault, read_witnesses
from donjon.app.wiring import Workspace, no_key
from donjon.core.events import Progress
from donjon.repository.index import Index
from donjon.repository.verify import Report, remember_bad_packs, verify_content, verify_structure


def verify_vault(
    workspace: Workspace, data_percent: float, progress: Progress, witnesses: Sequence[str] = ()
) -> Report:
    """Check the structure, with a key also the metadata and this share of the data.

    What the vault shows is compared with what this host saw before, and with the checkpoints in the places
    ``witnesses``: addresses of stores, folders or files.

    Raises ``KeyNotAvailable`` if data is to be read and no key was given.
    """
    vault = workspace.open()
    if workspace.has_key:
        workspace.unlock(vault)
    elif data_percent:
        raise no_key(vault)
    elsewhere = read_witnesses(vault, witnesses)  # before the points are listed, as points come between
    report = verify_structure(vault, progress)
    report.findings += judge_vault(workspace, vault, elsewhere, report.structure)
    if workspace.has_key:
        verify_content(vault, workspace.reader(vault, progress), report, data_percent, progress)
    remember_bad_packs(Index(workspace.cache(vault)), report)
    return report
