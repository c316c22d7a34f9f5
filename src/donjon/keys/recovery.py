"""The recovery kit: the key that opens a vault when everything else is lost.

It is a text file meant to leave the host, on paper or on a stick. ``docs/keys.md``, "The recovery kit",
has the bytes; ``kit_paper`` prints it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from donjon.codec.hpke import PRIVATE_BYTES, PrivateKey
from donjon.codec.sign import SEED_BYTES, SigningKey
from donjon.core.errors import DonjonError, KeyNotAvailable, UsageError
from donjon.keys import kit_payload, kit_text
from donjon.keys.argon2id import DEFAULT_COST, Cost, decrypt, encrypt, fresh
from donjon.keys.base import KIT, Opener, PrivateKeyOpener, Recipient, recipient_id
from donjon.keys.private import create_private

#: Asked for the passphrase, and only if the kit has one.
PassphraseSource = Callable[[], str]

_DOMAIN: Final = b"donjon/v1/recovery-kit\0"
_MAX_FILE_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class RecoveryKit:
    """A kit, opened. ``created_at`` is in Unix seconds.

    ``opening_key`` is an HPKE private key (96 bytes); ``root_seed`` is the seed of the vault's root key
    (32 bytes), or None for an additional kit that only opens. Both are secret and never shown.
    """

    vault_id: bytes
    vault_name: str
    vault_url: str
    created_at: int
    opening_key: bytes = field(repr=False)
    root_seed: bytes | None = field(repr=False)

    def __post_init__(self) -> None:
        wrong_id = len(self.vault_id) != kit_payload.VAULT_ID_BYTES
        wrong_root = self.root_seed is not None and len(self.root_seed) != SEED_BYTES
        if wrong_id or wrong_root or len(self.opening_key) != PRIVATE_BYTES:
            msg = "a recovery kit needs a vault id of 16 bytes, a key of 96 and a root seed of 32 or none"
            raise UsageError(msg)

    @classmethod
    def generate(
        cls, *, vault_id: bytes, vault_name: str, vault_url: str, created_at: int, with_root: bool
    ) -> RecoveryKit:
        """A kit with fresh keys. Raises ``UsageError`` if name or address do not fit on one line."""
        _check_label("name", vault_name, kit_payload.MAX_NAME_BYTES)
        _check_label("address", vault_url, kit_payload.MAX_URL_BYTES)
        return cls(
            vault_id=vault_id,
            vault_name=vault_name,
            vault_url=vault_url,
            created_at=created_at,
            opening_key=new_opening_key(),
            root_seed=SigningKey.generate().seed if with_root else None,
        )

    @property
    def root(self) -> SigningKey | None:
        """The vault's root key, if this kit holds it."""
        return SigningKey(self.root_seed) if self.root_seed is not None else None

    @property
    def public(self) -> bytes:
        """The public half of the opening key, 1216 bytes."""
        return PrivateKey.from_bytes(self.opening_key).public.to_bytes()

    @property
    def fingerprint(self) -> str:
        """Six groups of four characters that tell this kit from every other, to be read aloud."""
        return kit_payload.show_fingerprint(self.fingerprint_bytes)

    @property
    def fingerprint_bytes(self) -> bytes:
        """The 15 bytes behind ``fingerprint``."""
        root = self.root
        return kit_payload.fingerprint(self.public, root.public if root else None)

    def opener(self) -> Opener:
        """Opens what was sealed to ``recipient``."""
        return PrivateKeyOpener(PrivateKey.from_bytes(self.opening_key))

    def recipient(self, name: str) -> Recipient:
        """The public half, to be stored in the vault under ``name``."""
        return Recipient(recipient_id(self.public), KIT, name, self.public, self.created_at)


def new_opening_key() -> bytes:
    """The 96 bytes of a fresh opening key."""
    return PrivateKey.generate().to_bytes()


def kit_to_text(kit: RecoveryKit, passphrase: str | None = None, *, cost: Cost = DEFAULT_COST) -> str:
    """The kit file, encrypted if there is a passphrase.

    Raises ``UsageError`` for an empty passphrase, a cost out of bounds, or a name or address that
    would not fit on one line.
    """
    _check_label("name", kit.vault_name, kit_payload.MAX_NAME_BYTES)
    _check_label("address", kit.vault_url, kit_payload.MAX_URL_BYTES)
    if not 0 <= kit.created_at < 1 << 64:
        msg = f"a recovery kit cannot have been created at {kit.created_at}"
        raise UsageError(msg)
    secret = kit.opening_key + (kit.root_seed or b"")
    head = kit_payload.Head(
        vault_id=kit.vault_id,
        created_at=kit.created_at,
        fingerprint=kit.fingerprint_bytes,
        vault_name=kit.vault_name,
        vault_url=kit.vault_url,
        has_root=kit.root_seed is not None,
        argon=None,
    )
    if passphrase is not None:
        argon = fresh(cost)
        head = replace(head, argon=argon)
        secret = encrypt(passphrase, argon, _DOMAIN + head.encode(), secret)
    return kit_text.to_text(head, kit_payload.encode(head, secret))


def write_kit(
    path: Path, kit: RecoveryKit, passphrase: str | None = None, *, cost: Cost = DEFAULT_COST
) -> str:
    """Write a kit file that nobody else can read, and return its text once it is on the disk.

    What was written is read back and opened first, since a kit that does not open is found too late.
    Raises what ``create_private`` and ``kit_to_text`` raise.
    """
    text = kit_to_text(kit, passphrase, cost=cost)
    if read_kit(text, lambda: passphrase or "") != kit:
        msg = "the recovery kit does not read back as it was written, so it was not saved"
        raise DonjonError(msg, hint="Check the memory of this machine.")
    create_private(path, text.encode())
    return text


def read_kit(source: Path | str, passphrase: PassphraseSource | None = None) -> RecoveryKit:
    """The kit in a file (``Path``) or in a text (``str``): a kit file or the text of its QR code.

    Raises ``KeyNotAvailable`` if there is no such file, the kit is damaged (the message names the line)
    or the passphrase is wrong or missing, ``UnsupportedVersion`` for a newer kit.
    """
    what = str(source) if isinstance(source, Path) else "recovery kit"
    text = load_text(source) if isinstance(source, Path) else source
    head, secret = kit_payload.decode(kit_text.to_payload(text, what), what)
    kit_text.check_headers(text, head, what)
    if head.argon:
        if passphrase is None:
            msg = f"{what}: is protected by a passphrase"
            raise KeyNotAvailable(msg, hint="Give its passphrase with --passphrase-file FILE.")
        secret = decrypt(passphrase(), head.argon, _DOMAIN + head.encode(), secret, what=what)
    kit = RecoveryKit(
        vault_id=head.vault_id,
        vault_name=head.vault_name,
        vault_url=head.vault_url,
        created_at=head.created_at,
        opening_key=secret[:PRIVATE_BYTES],
        root_seed=secret[PRIVATE_BYTES:] if head.has_root else None,
    )
    if kit.fingerprint_bytes != head.fingerprint:
        raise kit_payload.damaged(what, "its keys are not the ones of its fingerprint")
    return kit


def _check_label(what: str, text: str, limit_bytes: int) -> None:
    if not text or text != text.strip() or not text.isprintable() or len(text.encode()) > limit_bytes:
        msg = f"the vault's {what} {text!r} cannot be put on a recovery kit"
        raise UsageError(msg, hint=f"Use 1 to {limit_bytes} bytes of printable text.")


def load_text(path: Path, kind: str = "recovery kit") -> str:
    """The text of a file that holds a kit or a share of one. Raises ``KeyNotAvailable``."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        msg = f"{path}: there is no {kind} here"
        made_by = "init" if kind == "recovery kit" else "keys split"
        raise KeyNotAvailable(msg, hint=f"Give the path of what `donjon {made_by}` saved.") from error
    except OSError as error:
        msg = f"{path}: the {kind} cannot be read: {error.strerror}"
        raise KeyNotAvailable(msg, hint="Give a file that this user can read.") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise kit_payload.damaged(str(path), "it is not UTF-8 text") from error
