"""The next signing key of a writer, and the credential file that holds it. See ``docs/format.md``, section
27.

The new key is on the disk, beside the credential, before the vault is told; and takes the credential's place
after that. So whenever this is cut off, the host has the key that counts.
"""

from __future__ import annotations

from pathlib import Path

from donjon.core.errors import IntegrityFailure, KeyNotAvailable, ObjectExists, PermissionMissing, Refused
from donjon.format import names
from donjon.format.objects import ObjectKind, pack_object
from donjon.format.succession import MAX_SUCCESSIONS, make_succession, parse_succession
from donjon.keys.private import sync_folder
from donjon.repository.credential import WriterCredential
from donjon.repository.fetch import fetch_object
from donjon.repository.successions import NO_SUCCESSION, Successor
from donjon.repository.vault import Vault


def draft_of(path: Path) -> Path:
    """Where the next credential waits to take the place of the one in ``path``."""
    return path.with_name(f".{path.name}.next")


def known_successors(vault: Vault, writer_id: bytes, what: str) -> tuple[Successor, ...]:
    """All keys of a writer after the first, as the store shows them now."""
    writer = vault.keyring.writer(writer_id, what)
    vault.keyring.successions.read_on(vault.store, writer_id, writer.public)
    return vault.keyring.successions.of(writer_id)


def adopt_successor(vault: Vault, credential: WriterCredential, path: Path) -> WriterCredential:
    """The credential that counts: the one in ``path``, or the next, if a rotation was cut off after its
    put."""
    draft = draft_of(path)
    if not draft.exists():
        return credential
    following = WriterCredential.read(draft)
    chain = known_successors(vault, credential.writer_id, str(path))
    if not chain or chain[-1].public != following.signing_key.public:
        return credential  # the vault was not told yet
    draft.replace(path)
    sync_folder(path.parent)
    return following


def rotate_key(vault: Vault, credential: WriterCredential, path: Path) -> tuple[WriterCredential, bool]:
    """Let a new key take over from that of ``credential``, which ``path`` holds; and whether this went on
    with what a run before had begun.

    Raises ``PermissionMissing`` for a revoked writer, ``Refused`` if another key has taken over already: then
    somebody else has the credential.
    """
    if vault.keyring.writer(credential.writer_id, str(path)).revoked_at is not None:
        msg = f"{vault.store.url}: the writer of this host is revoked"
        raise PermissionMissing(msg, hint="Make a new one with `donjon writer add NAME --out FILE`.")
    adopted = adopt_successor(vault, credential, path)
    if adopted is not credential:
        return adopted, True
    draft = draft_of(path)
    resumed = draft.exists()
    if not resumed:
        credential.successor().write(draft)
    following = WriterCredential.read(draft)
    if (following.writer_id, following.key_number) != (credential.writer_id, credential.key_number + 1):
        msg = f"{draft}: is no successor of the credential beside it"
        raise KeyNotAvailable(msg, hint="Remove it, if no rotation is running, and repeat.")
    _name(vault, credential, following)
    draft.replace(path)
    sync_folder(path.parent)
    return following, resumed


def _name(vault: Vault, credential: WriterCredential, following: WriterCredential) -> None:
    """Put the succession, unless it is there. Raises ``Refused`` if another one is."""
    writer, number = credential.writer_id, following.key_number
    if number > MAX_SUCCESSIONS:
        msg = f"{writer.hex()}: has had {MAX_SUCCESSIONS} keys, which is the most"
        raise Refused(msg, hint="Make a new writer with `donjon writer add NAME --out FILE`.")
    name = names.succession(writer, number)
    chain = known_successors(vault, writer, name)
    if len(chain) < number - 1 or (number > 1 and chain[number - 2].public != credential.signing_key.public):
        msg = f"{names.succession(writer, number - 1)}: is missing, damaged, or names another key"
        raise IntegrityFailure(msg, hint="Do not trust this store; run `donjon verify`.")
    if len(chain) < number:
        previous = chain[-1].digest if chain else NO_SUCCESSION
        succession = make_succession(
            vault.vault_id, writer, number, previous, vault.store.now(), following.signing_key
        )
        data = pack_object(ObjectKind.SUCCESSION, succession, vault.vault_id, credential.signing_key)
        try:
            vault.store.put(name, data, retain_until=vault.lock_end())
        except ObjectExists:  # a reply was lost, or another run does the same
            pass
        else:
            return
    data = fetch_object(vault.store, name, ObjectKind.ALLOWED_SUCCESSION)  # the larger form
    if parse_succession(data, name).public != following.signing_key.public:
        msg = f"{name}: names another key than the one of this host"
        hint = (
            "Somebody else has the credential of this writer. Revoke it with `donjon writer revoke`, and "
            "enrol this host anew."
        )
        raise Refused(msg, hint=hint)
