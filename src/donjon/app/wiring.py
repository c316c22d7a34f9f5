"""Builds adapters from addresses and settings. No other module does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from donjon.app.config import Home, KnownVault, Settings
from donjon.app.pins import watch_points
from donjon.core.errors import (
    DonjonError,
    IntegrityFailure,
    KeyNotAvailable,
    UnsupportedVersion,
    UsageError,
    VaultNotFound,
)
from donjon.core.events import Progress, Silent
from donjon.keys.base import PASSPHRASE
from donjon.repository.cache import Cache
from donjon.repository.credential import WriterCredential
from donjon.repository.index import Index
from donjon.repository.keyring import vault_id_of
from donjon.repository.reading import ChunkReader
from donjon.repository.rebuild import complete_index
from donjon.repository.vault import Vault, open_vault
from donjon.stores.base import ObjectStore

if TYPE_CHECKING:
    from donjon.keys.recovery import RecoveryKit

#: Asks a person for a passphrase; None where nobody can be asked.
Ask = Callable[[str], str]
#: Hears what a person should know at once.
Tell = Callable[[str], None]

_ADDRESSES = (
    "file:///path, sftp://user@host/path, s3://bucket/prefix, azure://account/container/prefix or"
    " gs://bucket/prefix"
)


def normal_url(url: str) -> str:
    """The address with its scheme; a bare path becomes ``file://`` with an absolute path."""
    if "://" in url:
        return url
    return Path(url).absolute().as_uri()


def open_store(url: str, *, create: bool = False) -> ObjectStore:
    """The store at an address, with retries. Raises ``UsageError`` for an address that is none."""
    from donjon.stores.retry import RetryingStore

    url = normal_url(url)
    parts = urlsplit(url)
    if parts.scheme == "file":
        from donjon.stores.local import LocalStore

        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            msg = f"{url}: is no address of a local folder"
            raise UsageError(msg, hint="Write file:///absolute/path.")
        folder = local_folder(url)
        assert folder is not None  # noqa: S101  (a file:// address has one)
        return LocalStore.create(folder) if create else LocalStore(folder)
    if parts.scheme == "sftp":
        from donjon.stores.sftp import SftpStore

        return RetryingStore(SftpStore.create(url) if create else SftpStore(url))
    if parts.scheme in {"azure", "gs", "s3"}:
        from donjon.stores.first_versions import FirstVersions

        return RetryingStore(FirstVersions(_bucket(url, parts.scheme)))
    msg = f"{url}: Donjon has no store for {parts.scheme}:// yet"
    raise UsageError(msg, hint=f"Use {_ADDRESSES}.")


def _bucket(url: str, scheme: str) -> ObjectStore:
    """The store in a bucket or container of a cloud."""
    if scheme == "azure":
        from donjon.stores.azure_blob import AzureBlobStore

        return AzureBlobStore(url)
    if scheme == "gs":
        from donjon.stores.gcs import GcsStore

        return GcsStore(url)
    from donjon.stores.s3 import S3Store

    return S3Store(url)


def local_folder(url: str) -> Path | None:
    """The folder behind a ``file://`` address, None for any other store."""
    parts = urlsplit(normal_url(url))
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def open_vault_at(url: str, *, root_public: bytes | None = None) -> Vault:
    """The vault at an address, whose id is checked to belong to its root key.

    Raises what ``open_vault`` raises, and ``VaultNotFound`` for a local folder that does not exist.
    """
    folder = local_folder(url)
    if folder is not None and not folder.is_dir():
        msg = f"{url}: there is no such folder, so no vault either"
        raise VaultNotFound(msg, hint="Mount the disk, correct the address, or make one with `donjon init`.")
    vault = open_vault(open_store(url), root_public=root_public)
    if vault.vault_id != vault_id_of(vault.object.root_public):
        msg = f"vault: the id {vault.vault_id.hex()} does not belong to its root key"
        raise IntegrityFailure(msg, hint=f"Do not use {url}; find out who replaced the vault.")
    return vault


class Workspace:
    """What a command works with: the settings of the user and all that is opened by them."""

    def __init__(self, settings: Settings, *, ask: Ask | None = None, tell: Tell | None = None) -> None:
        self.settings = settings
        self.home = Home(settings.home)
        self._ask = ask
        self._tell = tell or (lambda _: None)

    def open(self) -> Vault:
        """The vault that is meant, without any key."""
        chosen = self.home.select(self.settings.vault)
        if isinstance(chosen, str):
            url = normal_url(chosen).rstrip("/")
            chosen = next((known for known in self.home.vaults() if known.url == url), url)
        if isinstance(chosen, str):
            vault = open_vault_at(chosen)
        else:
            vault = open_vault_at(chosen.url, root_public=bytes.fromhex(chosen.root_public))
        self.home.check_pin(vault.keyring)
        if isinstance(chosen, KnownVault):
            self.home.keep_pin(vault.keyring)
        known = isinstance(chosen, KnownVault)
        watch_points(self.home.folder, vault, self._tell, keep=lambda: known or vault.has_secret)
        return vault

    def cache(self, vault: Vault) -> Cache:
        """This host's cache of a vault."""
        return Cache(self.home.cache_path(vault.vault_id))

    def open_for_writing(self) -> tuple[Vault, WriterCredential]:
        """The vault with the writer credential of this host, which opens no backup."""
        vault = self.open()
        credential = WriterCredential.read(self.home.writer_path(vault.vault_id))
        if (credential.vault_id, credential.root_public) != (vault.vault_id, vault.object.root_public):
            msg = f"{vault.store.url}: this host is enrolled in a vault with another root key"
            raise KeyNotAvailable(msg, hint="Check the address; if the vault was replaced, ask by whom.")
        vault.use_secret(credential.secret)
        self.home.keep_pin(vault.keyring)
        return vault, credential

    def open_for_reading(self) -> Vault:
        """The vault with a key that opens it: the recovery kit or a passphrase.

        Raises ``KeyNotAvailable`` if none was given or none fits.
        """
        vault = self.open()
        self.unlock(vault)
        return vault

    def open_for_listing(self) -> Vault:
        """The vault with the names that the writer credential of this host reveals, if there is one."""
        vault = self.open()
        if (path := self.home.writer_path(vault.vault_id)).exists():
            vault.use_secret(WriterCredential.read(path).secret)
        return vault

    @property
    def has_key(self) -> bool:
        """Whether the user named a key that opens backups."""
        return self.settings.kit is not None or self.settings.passphrase_file is not None

    def unlock(self, vault: Vault) -> None:
        """Use the kit or the passphrase that the user gave."""
        if self.settings.kit is not None:
            vault.use_opener(self.read_kit(vault).opener())
        elif self.settings.passphrase_file is not None or self._ask is not None:
            self._unlock_with_passphrase(vault)
        else:
            raise no_key(vault)
        self.home.keep_pin(vault.keyring)

    def read_kit(self, vault: Vault) -> RecoveryKit:
        """The recovery kit that the user named. Raises ``KeyNotAvailable`` if it is of another vault."""
        from donjon.keys.recovery import read_kit

        if self.settings.kit is None:
            msg = "this needs the recovery kit"
            raise KeyNotAvailable(msg, hint="Give it with --kit FILE or DONJON_KIT.")
        kit = read_kit(self.settings.kit, self._passphrase("Passphrase of the recovery kit: "))
        if kit.vault_id != vault.vault_id:  # and the id names the root key
            msg = f"{self.settings.kit}: is the recovery kit of another vault ({kit.vault_name!r})"
            raise KeyNotAvailable(msg, hint=f"Use the kit of {vault.store.url}.")
        return kit

    def _unlock_with_passphrase(self, vault: Vault) -> None:
        from donjon.keys.passphrase import unlock

        members = [m for m in vault.keyring.members.values() if m.recipient.kind == PASSPHRASE]
        source = self._passphrase("Passphrase of the vault: ")
        if source is None:
            raise no_key(vault)
        if not members:
            msg = f"{vault.store.url}: no passphrase opens this vault, or none any more"
            raise KeyNotAvailable(msg, hint="Use a recovery kit with --kit FILE; see `donjon keys list`.")
        passphrase = source()
        failure: DonjonError | None = None
        for member in members:
            try:
                opener = unlock(member.recipient, passphrase)
            except KeyNotAvailable:
                continue
            except (IntegrityFailure, UnsupportedVersion) as error:  # another one may open all the same
                failure = error
                continue
            vault.use_opener(opener)
            return
        if failure is not None:
            raise failure
        msg = f"{vault.store.url}: the passphrase opens none of the {len(members)} passphrase keys"
        raise KeyNotAvailable(msg, hint="Check the passphrase, or use the recovery kit with --kit FILE.")

    def _passphrase(self, prompt: str) -> Callable[[], str] | None:
        if (path := self.settings.passphrase_file) is not None:
            from donjon.keys.passphrase import passphrase_from_file

            return lambda: passphrase_from_file(path)
        if (ask := self._ask) is not None:
            return lambda: ask(prompt)
        return None

    def reader(self, vault: Vault, progress: Progress | None = None) -> ChunkReader:
        """What reads chunks of an opened vault; the index is brought up to date first."""
        index = Index(self.cache(vault))
        listener = progress or Silent()
        for name in index.sync_all(vault):
            listener.note(f"{name}: is damaged; what it held is read from the packs if needed")
        return ChunkReader(vault, index, lambda: complete_index(vault, index, listener))


def no_key(vault: Vault) -> KeyNotAvailable:
    """The error for a command that needs a key and has none."""
    return KeyNotAvailable(
        f"{vault.store.url}: no key at hand that opens this vault",
        hint="Give the recovery kit with --kit FILE or DONJON_KIT, or --passphrase-file FILE.",
    )
