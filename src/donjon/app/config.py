"""What this host remembers: vaults by name, its writer credentials, its cache; all below one folder."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from donjon.core.errors import DonjonError, KeyNotAvailable, Refused, UsageError
from donjon.keys.private import create_private, private_folder, replace_private
from donjon.repository.keyring import Keyring

if TYPE_CHECKING:
    from donjon.plan.model import Credential  # which takes long to load, and few commands need it

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")


class KnownVault(msgspec.Struct, frozen=True):
    """A vault that this host knows. ``root_public`` is pinned: a vault with another key is another vault."""

    name: str
    url: str
    vault_id: str
    root_public: str


class Pin(msgspec.Struct, frozen=True):
    """The last keyring record of a vault that this host has seen, and its digest in hexadecimal."""

    number: int
    head: str


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user said, by options, by the environment, or by a plan.

    ``credential`` says whom to be in the cloud of the vault, in place of what the SDK would find.
    """

    home: Path
    vault: str | None = None
    kit: Path | None = None
    passphrase_file: Path | None = None
    credential: Credential | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """``DONJON_HOME``, ``DONJON_VAULT``, ``DONJON_KIT`` and ``DONJON_PASSPHRASE_FILE``."""
        kit, passphrase = environment.get("DONJON_KIT"), environment.get("DONJON_PASSPHRASE_FILE")
        return cls(
            home_folder(environment),
            environment.get("DONJON_VAULT") or None,
            Path(kit) if kit else None,
            Path(passphrase) if passphrase else None,
        )


def home_folder(environment: Mapping[str, str]) -> Path:
    """``DONJON_HOME``, else the platform's folder for configuration."""
    if home := environment.get("DONJON_HOME"):
        return Path(home).absolute()
    from platformdirs import user_config_path

    return user_config_path("donjon", appauthor=False)


class Home:
    """The folder itself."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def vaults(self) -> list[KnownVault]:
        """All vaults known, by name."""
        found = []
        for path in sorted(self.folder.glob("vaults/*.json")):
            try:
                found.append(msgspec.json.decode(path.read_bytes(), type=KnownVault))
            except (msgspec.MsgspecError, OSError) as error:
                msg = f"{path}: cannot be read: {error}"
                raise DonjonError(msg, hint="Repair or remove the file.") from error
        return found

    def check_name_is_free(self, name: str) -> None:
        """Raises ``UsageError`` for an impossible name and ``Refused`` for one that is taken."""
        if not _NAME.match(name):
            msg = f"{name!r} cannot be the name of a vault"
            raise UsageError(msg, hint="Use letters, digits, dots, hyphens and underscores.")
        if self._vault_path(name).exists():
            msg = f"this host knows another vault as {name!r}"
            raise Refused(
                msg,
                hint="Choose another name with --name, or remove the old one's file in "
                f"{self._vault_path(name).parent}.",
            )

    def remember(self, vault: KnownVault) -> None:
        """Write a vault down."""
        self.adopt(self.prepare(vault), vault)

    def prepare(self, vault: KnownVault) -> Path:
        """Write a vault down under a name that does not count yet: afterwards only a crash can fail."""
        path = self._vault_path(vault.name)
        private_folder(path.parent)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        create_private(draft, msgspec.json.format(msgspec.json.encode(vault)) + b"\n")
        return draft

    def adopt(self, draft: Path, vault: KnownVault) -> None:
        """Let a prepared vault count. Raises ``Refused`` if its name was taken meanwhile."""
        try:
            os.link(draft, self._vault_path(vault.name))
        except FileExistsError:
            self.check_name_is_free(vault.name)
            raise
        draft.unlink()

    def check_pin(self, keyring: Keyring) -> None:
        """Raises ``IntegrityFailure`` if the keyring is older than, or another than, what this host saw."""
        if pin := self._pin(keyring.vault.vault_id):
            keyring.require(pin.number, bytes.fromhex(pin.head))

    def keep_pin(self, keyring: Keyring) -> None:
        """Remember how far the keyring goes; other processes of this host never move it back."""
        vault_id, pin = keyring.vault.vault_id, Pin(keyring.number, keyring.head.hex())
        if self._pin(vault_id) == pin:
            return
        path = self._pin_path(vault_id)
        private_folder(path.parent)
        with path.with_suffix(".lock").open("ab") as lock:
            os.fchmod(lock.fileno(), 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.check_pin(keyring)
            replace_private(path, msgspec.json.encode(pin) + b"\n")

    def _pin(self, vault_id: bytes) -> Pin | None:
        path = self._pin_path(vault_id)
        try:
            pin = msgspec.json.decode(path.read_bytes(), type=Pin)
            if pin.number < 0 or len(bytes.fromhex(pin.head)) != 32:
                raise ValueError(pin)
        except FileNotFoundError:
            return None
        except (msgspec.MsgspecError, ValueError, OSError) as error:
            msg = f"{path}: cannot be read: {error}"
            hint = "It remembers how far the vault's keyring went. Remove it only if nobody tampered with it."
            raise KeyNotAvailable(msg, hint=hint) from error
        return pin

    def _pin_path(self, vault_id: bytes) -> Path:
        return self.folder / "pins" / f"{vault_id.hex()}.json"

    def writer_path(self, vault_id: bytes) -> Path:
        """Where the writer credential of a vault is on this host."""
        return self.folder / "writers" / f"{vault_id.hex()}.json"

    def cache_path(self, vault_id: bytes) -> Path:
        """Where the cache of a vault is."""
        return self.folder / "cache" / vault_id.hex()

    def select(self, wanted: str | None) -> KnownVault | str:
        """The vault that is meant: a known one, or an address. Raises ``UsageError`` if it is unclear."""
        known = self.vaults()
        if wanted is None:
            if len(known) == 1:
                return known[0]
            msg = "no vault is known here" if not known else "several vaults are known here"
            names = ", ".join(vault.name for vault in known)
            hint = (
                f"Choose one with --vault: {names}."
                if known
                else "Make one with `donjon init URL --kit FILE --second-kit FILE`."
            )
            raise UsageError(msg, hint=hint)
        for vault in known:
            if wanted in (vault.name, vault.url):
                return vault
        if "://" in wanted or "/" in wanted:
            return wanted
        msg = f"no vault is known here as {wanted!r}"
        raise UsageError(msg, hint="Give its address, such as file:///srv/vault.")

    def _vault_path(self, name: str) -> Path:
        return self.folder / "vaults" / f"{name}.json"
