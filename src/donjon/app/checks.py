"""Verifying a vault, as every interface offers it."""

from __future__ import annotations

from donjon.app.wiring import Workspace, no_key
from donjon.core.events import Progress
from donjon.repository.index import Index
from donjon.repository.verify import Report, remember_bad_packs, verify_content, verify_structure


def verify_vault(workspace: Workspace, data_percent: float, progress: Progress) -> Report:
    """Check the structure, with a key also the metadata and this share of the data.

    Raises ``KeyNotAvailable`` if data is to be read and no key was given.
    """
    vault = workspace.open()
    if workspace.has_key:
        workspace.unlock(vault)
    elif data_percent:
        raise no_key(vault)
    report = verify_structure(vault, progress)
    if workspace.has_key:
        verify_content(vault, workspace.reader(vault, progress), report, data_percent, progress)
    remember_bad_packs(Index(workspace.cache(vault)), report)
    return report
