"""The signing key of this host's writer: how old it is, and the next one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from donjon.app.wiring import Workspace
from donjon.credentials.base import Credential
from donjon.repository.writer_keys import known_successors, rotate_key

KIND = "donjon-writer-key"


@dataclass(frozen=True, slots=True)
class NextKey:
    """A writer's key that took over, by its number. ``resumed`` if a run before had begun it."""

    writer: bytes
    number: int
    path: Path
    resumed: bool


def writer_keys(workspace: Workspace) -> list[Credential]:
    """The keys of this host's writer, oldest first; only the last one is active."""
    vault, credential = workspace.open_for_writing()
    path = workspace.home.writer_path(vault.vault_id)
    writer = vault.keyring.writer(credential.writer_id, str(path))
    chain = known_successors(vault, writer.writer_id, str(path))
    began = [writer.created_at, *(one.since or one.created_at for one in chain)]
    return [
        Credential(
            f"{writer.writer_id.hex()}/{number}", KIND, credential.name,
            created_at=created_at, use_is_known=False,
            active=number == len(chain) and writer.revoked_at is None,
            in_use=number == credential.key_number,
            stored_in=str(path) if number == credential.key_number else "",
        )
        for number, created_at in enumerate(began)
    ]  # fmt: skip


def keys_in_use(workspace: Workspace) -> list[Credential]:
    """Those of ``writer_keys`` that still count: what a key signed before the next took over is no risk."""
    return [key for key in writer_keys(workspace) if key.active or key.in_use]


def rotate_writer_key(workspace: Workspace) -> NextKey:
    """Let a new key take over from that of this host's writer; see ``rotate_key``."""
    vault, credential = workspace.open_for_writing()
    path = workspace.home.writer_path(vault.vault_id)
    following, resumed = rotate_key(vault, credential, path)
    return NextKey(following.writer_id, following.key_number, path, resumed)
