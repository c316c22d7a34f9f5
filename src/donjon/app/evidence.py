"""Evidence as every interface offers it: signing what was seen, keeping it, listing and checking it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from donjon.app.setup import show_labels
from donjon.app.wiring import Workspace
from donjon.codec.digest import short_id
from donjon.codec.sign import SigningKey
from donjon.core.errors import (
    DonjonError,
    IntegrityFailure,
    KeyNotAvailable,
    PathNotFound,
    Refused,
    UsageError,
)
from donjon.drills.canaries import KIND as CANARY
from donjon.format.evidence import EvidenceRow
from donjon.format.objects import MAX_BYTES, ObjectKind
from donjon.format.vault import VAULT_ID_BYTES
from donjon.keys.private import create_private
from donjon.repository.credential import read_signer
from donjon.repository.evidence import (
    SignedEvidence,
    judge_file,
    list_evidence,
    parse_alone,
    put_evidence,
    sign_evidence,
)
from donjon.repository.vault import Vault
from donjon.version import __version__

#: Where the credential that signs is, if no option says so; the first one that is set.
SIGNER_VARIABLES = ("DONJON_AUDITOR", "DONJON_CUSTODIAN")
_LIMIT = MAX_BYTES[ObjectKind.EVIDENCE]
_SHORTEST_START = 4


@dataclass(slots=True)
class Recorded:
    """Evidence that was signed, and where it is: in the vault, in a file, or both."""

    signed: SignedEvidence
    places: list[str] = field(default_factory=list)


class Recorder:
    """Signs what a check saw. It is made before the check, so that nothing is missing afterwards.

    ``credential`` is the file of an auditor, a custodian or a writer; without it those that ``environment``
    names are used, else the writer credential of this host. ``out`` is a new file.
    Raises ``KeyNotAvailable`` if there is no credential that this vault accepts, ``Refused`` if ``out``
    exists.
    """

    def __init__(
        self,
        workspace: Workspace,
        vault: Vault,
        *,
        credential: Path | None,
        environment: Mapping[str, str],
        out: Path | None,
        in_vault: bool = True,
    ) -> None:
        if out is not None and os.path.lexists(out):
            msg = f"{out}: exists, and evidence never overwrites anything"
            raise Refused(msg, hint="Choose another file name.")
        self._vault = vault
        self._out = out
        self._in_vault = in_vault
        self._key = signing_key(workspace, vault, credential, environment)

    @property
    def signer(self) -> bytes:
        """The id of who signs."""
        return short_id(self._key.public)

    def record(self, kind: str, subject: str, rows: Sequence[EvidenceRow]) -> Recorded:
        """Sign and keep it: first in the file, then in the vault. Raises what stores and files raise."""
        signed = sign_evidence(
            self._vault, self._key, kind=kind, program=f"donjon {__version__}", subject=subject, rows=rows
        )
        recorded = Recorded(signed)
        if self._out is not None:
            create_private(self._out, signed.data)
            recorded.places.append(str(self._out))
        if self._in_vault:
            recorded.places.append(f"{self._vault.store.url}: {put_evidence(self._vault, signed)}")
        return recorded


class Wishes(Protocol):
    """Where the evidence of a drill goes: who signs, in which new file, and whether in the vault."""

    @property
    def sign(self) -> Path | None:
        """See ``Recorder``."""

    @property
    def out(self) -> Path | None:
        """See ``Recorder``."""

    @property
    def in_vault(self) -> bool:
        """See ``Recorder``."""


def recorder_for(
    wanted: Wishes, workspace: Workspace, vault: Vault, environment: Mapping[str, str]
) -> Recorder | None:
    """What records a drill as the user wants it, None if nowhere. Raises what making a ``Recorder`` does."""
    if not wanted.in_vault and wanted.out is None:
        return None
    return Recorder(
        workspace,
        vault,
        credential=wanted.sign,
        environment=environment,
        out=wanted.out,
        in_vault=wanted.in_vault,
    )


def record_or_tell(
    recorder: Recorder | None, kind: str, subject: str, rows: Sequence[EvidenceRow]
) -> tuple[Recorded | None, DonjonError | None]:
    """What was recorded, or why nothing was, so that what was seen is told all the same."""
    try:
        return (recorder.record(kind, subject, rows) if recorder is not None else None), None
    except DonjonError as error:
        return None, error


def signing_key(
    workspace: Workspace, vault: Vault, credential: Path | None, environment: Mapping[str, str]
) -> SigningKey:
    """The key that signs evidence here; see ``Recorder``. Raises ``KeyNotAvailable``."""
    named = (environment[name] for name in SIGNER_VARIABLES if environment.get(name))
    file = credential or next((Path(name) for name in named), None)
    file = file or workspace.home.writer_path(vault.vault_id)
    if credential is None and not file.exists():
        msg = "there is no credential here that could sign evidence"
        hint = "Give that of an auditor, a custodian or a writer with --sign FILE or DONJON_AUDITOR; "
        raise KeyNotAvailable(msg, hint=f"{hint}`donjon auditor add NAME --out FILE` makes one.")
    signer = read_signer(file)
    if (signer.vault_id, signer.root_public) != (vault.vault_id, vault.object.root_public):
        msg = f"{file}: is a credential for another vault ({signer.url})"
        raise KeyNotAvailable(msg, hint=f"Use one that was made for {vault.store.url}.")
    known = vault.keyring.signers.get(short_id(signer.signing_key.public))
    if known is None or known.revoked_at is not None:
        msg = f"{file}: {vault.store.url} does not accept its owner, or not any more"
        raise KeyNotAvailable(msg, hint="Make a new one with `donjon auditor add NAME --out FILE`.")
    return signer.signing_key


@dataclass(frozen=True, slots=True)
class Shown:
    """Evidence with who signed it: their role, and their name as far as a key reveals it."""

    signed: SignedEvidence
    role: str
    name: str


def list_all(workspace: Workspace) -> tuple[list[Shown], list[IntegrityFailure]]:
    """All evidence in the vault, oldest first, and what is wrong with some. Needs no key."""
    vault = workspace.open()
    show_labels(workspace, vault)
    damaged: list[IntegrityFailure] = []
    found = [one for one in list_evidence(vault, damaged) if one.evidence.kind != CANARY]
    return [with_signer(vault, signed) for signed in found], damaged


def show_one(workspace: Workspace, wanted: str) -> Shown:
    """The evidence whose digest starts so, or the newest for "latest".

    Raises ``PathNotFound`` if none or several fit.
    """
    found, _ = list_all(workspace)
    if wanted == "latest":
        fitting = found[-1:]
    else:
        start = wanted if len(wanted) >= _SHORTEST_START else "-"
        fitting = [shown for shown in found if shown.signed.digest.hex().startswith(start)]
    if len(fitting) != 1:
        msg = f"{wanted!r} fits {len(fitting) or 'no'} evidence in this vault"
        raise PathNotFound(msg, hint="See `donjon evidence list`, and give the start of an id, or `latest`.")
    return fitting[0]


def check_file(workspace: Workspace, file: Path, vault_id: str | None) -> Shown:
    """Evidence in a file: with the vault of the settings, or with nothing but its id in hexadecimal.

    Raises ``IntegrityFailure`` if it is not what somebody signed whom the root key certified.
    """
    data = _read_file(file)
    if vault_id is not None:
        signed = parse_alone(data, str(file), _parse_id(vault_id))
        return Shown(signed, "", "")
    vault = workspace.open()
    show_labels(workspace, vault)
    return with_signer(vault, judge_file(vault, data, str(file)))


def _read_file(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_LIMIT + 1)
    except OSError as error:
        msg = f"{file}: cannot be read: {error.strerror}"
        raise UsageError(msg, hint="Name a file that `--evidence FILE` of a drill made.") from error


def _parse_id(text: str) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != VAULT_ID_BYTES:
        msg = f"{text!r} is no id of a vault"
        raise UsageError(msg, hint="It has 32 hexadecimal digits; `donjon init` and every kit show it.")
    return value


def with_signer(vault: Vault, signed: SignedEvidence) -> Shown:
    """Evidence that this vault accepted, with who signed it."""
    keyring, who = vault.keyring, signed.evidence.signer
    roles = (("writer", keyring.writers), ("custodian", keyring.custodians), ("auditor", keyring.auditors))
    role, signer = next((word, members[who]) for word, members in roles if who in members)
    name = vault.secret.read_label(signer.label, "keyring") if vault.has_secret else ""
    return Shown(signed, role, name)
