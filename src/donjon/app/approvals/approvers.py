"""Approvers as every interface offers them: making their keys, listing them, and signing with a key."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from donjon.app.setup import show_labels
from donjon.app.wiring import Workspace
from donjon.codec.digest import short_id
from donjon.codec.sign import Signer, SigningKey
from donjon.core.errors import KeyNotAvailable, Refused, UsageError
from donjon.keys.pkcs11 import TokenAddress
from donjon.keys.pkcs11_token import SCHEME, parse_key, pin_from_file
from donjon.keys.private import create_private
from donjon.repository.approver_keys import ApproverCredential, ApproverKey
from donjon.repository.approvers import ApproverSet
from donjon.repository.records import check_label
from donjon.repository.vault import Vault


@dataclass(frozen=True, slots=True)
class NamedApprover:
    """An approver for people; the name is empty where no key reveals it."""

    approver_id: bytes
    public: bytes
    name: str


@dataclass(frozen=True, slots=True)
class Approvers:
    """Those of a vault: so many of them are needed. ``created_at`` is in Unix seconds."""

    needed: int
    members: tuple[NamedApprover, ...]
    created_at: int


@dataclass(frozen=True, slots=True)
class KeyChoice:
    """Which approver's key to use: a file, or a URI of RFC 7512 for one on a token.

    ``module`` is the library that reaches the token, ``pin_file`` holds its PIN; without it ``ask`` asks a
    person, if there is one.
    """

    key: str
    module: Path | None = None
    pin_file: Path | None = None
    ask: Callable[[str], str] | None = None

    @property
    def token(self) -> TokenAddress | None:
        """The key on a token; None for a file. Raises ``UsageError`` for a URI that names none."""
        return parse_key(self.key) if self.key.startswith(SCHEME) else None

    def pin(self, label: str) -> str:
        """The PIN of a token. Raises ``KeyNotAvailable`` if there is none."""
        if self.pin_file is not None:
            return pin_from_file(self.pin_file)
        if self.ask is not None:
            return self.ask(f"PIN of the token {label}: ")
        msg = f"{label}: there is no terminal to ask for the PIN"
        raise KeyNotAvailable(msg, hint="Give it with --pin-file FILE.")


def public_file(file: Path) -> Path:
    """Where the public half of the credential in ``file`` is."""
    return file.with_name(f"{file.name}.pub")


def new_approver(name: str, out: Path) -> ApproverKey:
    """Make the key of an approver: the credential in ``out``, the public half beside it in ``out``.pub."""
    check_label(name)
    public = _free(public_file(out))
    credential = ApproverCredential(name, SigningKey.generate().seed)
    credential.write(out)
    try:
        _publish(credential.public, public)
    except BaseException:
        out.unlink()
        raise
    return credential.public


def new_token_approver(name: str, choice: KeyChoice, out: Path) -> ApproverKey:
    """Make the key of an approver on a token, its public half in ``out``.

    A key that is there already is taken as it is, so that one made with its maker's tools serves.
    """
    from donjon.keys.pkcs11_signer import create_key, open_signer

    check_label(name)
    if (token := choice.token) is None:
        msg = f"{choice.key}: is no key on a token"
        raise UsageError(msg, hint="Name it as pkcs11:token=LABEL;object=LABEL.")
    _free(out)
    pin = choice.pin(token.token)
    try:
        public = create_key(token, choice.module, lambda _: pin)
    except Refused:  # there is one
        with open_signer(token, choice.module, lambda _: pin) as signer:
            public = signer.public
    made = ApproverKey(name, public)
    _publish(made, out)
    return made


def _free(file: Path) -> Path:
    if os.path.lexists(file):
        msg = f"{file}: exists already, and is never overwritten"
        raise Refused(msg, hint="Choose another file name.")
    return file


def _publish(key: ApproverKey, file: Path) -> None:
    create_private(file, f"{key.text()}\n".encode())
    file.chmod(0o644)  # it is no secret


@contextlib.contextmanager
def open_approver_key(choice: KeyChoice) -> Iterator[Signer]:
    """The key that was chosen, until the block ends. Raises ``KeyNotAvailable``, ``UsageError``."""
    if (token := choice.token) is None:
        yield ApproverCredential.read(Path(choice.key)).signing_key
        return
    from donjon.keys.pkcs11_signer import open_signer

    with open_signer(token, choice.module, choice.pin) as signer:
        yield signer


def list_approvers(workspace: Workspace) -> Approvers | None:
    """Those of now, None in a vault that was made without; needs no key, but shows names only with one."""
    vault = workspace.open()
    show_labels(workspace, vault)
    return named(vault, vault.keyring.approvers) if vault.keyring.approvers else None


def named(vault: Vault, approvers: ApproverSet) -> Approvers:
    """A set of approvers for people."""
    labels = {member.public: member.label for member in approvers.members.values()}
    return Approvers(approvers.needed, named_members(vault, labels), approvers.created_at)


def named_members(vault: Vault, labels: Mapping[bytes, bytes]) -> tuple[NamedApprover, ...]:
    """Approvers for people, from their hidden names by their public keys."""
    return tuple(
        NamedApprover(
            short_id(public),
            public,
            vault.secret.read_label(label, "approvers") if vault.has_secret else "",
        )
        for public, label in labels.items()
    )
