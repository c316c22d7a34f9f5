from __future__ import annotations

from pathlib import Path

import pytest

from donjon.keys import passphrase
from donjon.keys.base import Opener, Recipient
from donjon.keys.recovery import RecoveryKit, read_kit, write_kit
from donjon.testing.conformance.keys import PublicKeyTests

CHEAP = passphrase.Cost(memory_kib=8 * 1024, passes=1, lanes=1)
PASSPHRASE = "correct horse battery staple"


class KitTests(PublicKeyTests):
    """A kit is written to a file and read again whenever its owner is asked to open."""

    protected: bool

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    def make(self, name: str) -> tuple[Recipient, Opener]:
        kit = RecoveryKit.generate(
            vault_id=bytes(16), vault_name="vault", vault_url="file:///vault", created_at=1, with_root=True
        )
        recipient = kit.recipient(name)
        path = self.folder / recipient.recipient_id.hex()
        write_kit(path, kit, PASSPHRASE if self.protected else None, cost=CHEAP)
        return recipient, kit.opener()

    def reopen(self, recipient: Recipient) -> Opener:
        return read_kit(self.folder / recipient.recipient_id.hex(), lambda: PASSPHRASE).opener()


class TestKit(KitTests):
    protected = False


class TestProtectedKit(KitTests):
    protected = True


class TestPassphrase(PublicKeyTests):
    def make(self, name: str) -> tuple[Recipient, Opener]:
        recipient = passphrase.create(name, PASSPHRASE, created_at=1, cost=CHEAP)
        return recipient, passphrase.unlock(recipient, PASSPHRASE)

    def reopen(self, recipient: Recipient) -> Opener:
        return passphrase.unlock(recipient, PASSPHRASE)
