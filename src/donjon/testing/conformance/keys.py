"""What every pair of recipient and opener must do.

Subclass ``PublicKeyTests`` for a new kind of key that a person keeps, and ``KeyServiceTests`` for one that a
service keeps::

    class TestMyKms(KeyServiceTests):
        def make_recipient(self, name: str) -> Recipient: ...
        def connect(self, recipient: Recipient) -> KeyService: ...
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import ClassVar, Final

import pytest

from donjon.core.errors import DonjonError, IntegrityFailure, KeyNotAvailable, UnsupportedVersion
from donjon.format.limits import MAX_SEAL_BYTES
from donjon.format.vault import secret_info, session_info
from donjon.keys.base import RECIPIENT_ID_BYTES, KeyService, Opener, Recipient, recipient_id, service_id

_SECRET: Final = bytes(range(32))
_INFO: Final = b"donjon/v1/key-tests\0" + bytes(16)


class KeyTests(ABC):
    """The conformance suite of the port ``donjon.keys.base``."""

    #: What says that a seal is not the opener's own, or was changed; more on servers that name it wrongly.
    shut: ClassVar[tuple[type[DonjonError], ...]] = (KeyNotAvailable, IntegrityFailure)

    @abstractmethod
    def make(self, name: str) -> tuple[Recipient, Opener]:
        """A recipient with a fresh key, and its opener."""

    @abstractmethod
    def reopen(self, recipient: Recipient) -> Opener:
        """The opener of a recipient that ``make`` made, from what its owner keeps and its public bytes."""

    def seal(self, recipient: Recipient, secret: bytes, info: bytes) -> bytes:
        """A secret sealed by a writer, who cannot open it."""
        return recipient.seal(secret, info)

    def test_opens_what_was_sealed(self) -> None:
        recipient, opener = self.make("one")
        assert opener.open(self.seal(recipient, _SECRET, _INFO), _INFO) == _SECRET

    def test_opens_later_from_what_its_owner_keeps(self) -> None:
        recipient, opener = self.make("one")
        again = self.reopen(recipient)
        assert again.recipient_id == opener.recipient_id
        assert again.open(self.seal(recipient, _SECRET, _INFO), _INFO) == _SECRET

    def test_ids_name_the_key(self) -> None:
        recipient, opener = self.make("one")
        recipient.check()
        assert len(recipient.recipient_id) == RECIPIENT_ID_BYTES
        assert recipient.recipient_id == opener.recipient_id

    def test_two_seals_differ(self) -> None:
        recipient, _ = self.make("one")
        assert self.seal(recipient, _SECRET, _INFO) != self.seal(recipient, _SECRET, _INFO)

    def test_another_key_does_not_open(self) -> None:
        sealed = self.seal(self.make("one")[0], _SECRET, _INFO)
        with pytest.raises(self.shut):
            self.make("two")[1].open(sealed, _INFO)

    @pytest.mark.parametrize("info", [b"", _INFO[:-1], _INFO + b"\0", _INFO.replace(b"v1", b"v2")])
    def test_another_info_does_not_open(self, info: bytes) -> None:
        recipient, opener = self.make("one")
        with pytest.raises(KeyNotAvailable):
            opener.open(self.seal(recipient, _SECRET, _INFO), info)

    def test_another_vault_or_session_does_not_open(self) -> None:
        recipient, opener = self.make("one")
        vault, writer = bytes(16), b"w" * 16
        mine = session_info(vault, writer, 1)
        sealed = self.seal(recipient, _SECRET, mine)
        others = [session_info(vault, writer, 2), session_info(vault, b"x" * 16, 1)]
        others += [session_info(b"v" * 16, writer, 1), secret_info(vault)]
        for info in others:
            with pytest.raises(KeyNotAvailable):
                opener.open(sealed, info)
        assert opener.open(sealed, mine) == _SECRET

    def test_a_flipped_bit_does_not_open(self) -> None:
        recipient, opener = self.make("one")
        sealed = self.seal(recipient, _SECRET, _INFO)
        for at in range(0, len(sealed), 29):
            changed = bytearray(sealed)
            changed[at] ^= 1 << at % 8
            with pytest.raises(self.shut):
                opener.open(bytes(changed), _INFO)

    def test_a_wrong_length_does_not_open(self) -> None:
        recipient, opener = self.make("one")
        sealed = self.seal(recipient, _SECRET, _INFO)
        for cut in (b"", sealed[:1], sealed[: len(sealed) // 2], sealed[:-1], sealed + b"\0"):
            with pytest.raises(self.shut):
                opener.open(cut, _INFO)

    def test_opens_in_many_threads(self) -> None:
        recipient, opener = self.make("one")
        sealed = [self.seal(recipient, bytes([number]) * 32, _INFO) for number in range(16)]
        with ThreadPoolExecutor(4) as pool:
            opened = list(pool.map(lambda each: opener.open(each, _INFO), sealed))
        assert opened == [bytes([number]) * 32 for number in range(16)]

    def test_shows_no_secret(self) -> None:
        recipient, opener = self.make("one")
        for shown in (repr(recipient), repr(opener), str(opener)):
            assert len(shown) < 200


class PublicKeyTests(KeyTests):
    """For keys that a person keeps: to seal takes the public half alone."""

    def test_ids_are_made_from_the_public_key(self) -> None:
        recipient, _ = self.make("one")
        assert recipient.recipient_id == recipient_id(recipient.public)

    def test_keys_are_fresh(self) -> None:
        one, two = self.make("one")[0], self.make("one")[0]
        assert one.recipient_id != two.recipient_id
        assert one.public != two.public

    def test_a_swapped_public_key_is_refused(self) -> None:
        one, two = self.make("one")[0], self.make("two")[0]
        forged = replace(one, public=two.public)
        with pytest.raises(IntegrityFailure):
            forged.seal(_SECRET, _INFO)


class KeyServiceTests(KeyTests):
    """For keys that a service keeps: it is asked to seal, and to open."""

    @abstractmethod
    def make_recipient(self, name: str) -> Recipient:
        """A recipient with a fresh key."""

    @abstractmethod
    def connect(self, recipient: Recipient) -> KeyService:
        """The service of a recipient, reached anew."""

    def make(self, name: str) -> tuple[Recipient, Opener]:
        """See ``KeyTests``."""
        recipient = self.make_recipient(name)
        return recipient, self.connect(recipient)

    def reopen(self, recipient: Recipient) -> Opener:
        """See ``KeyTests``."""
        return self.connect(recipient)

    def seal(self, recipient: Recipient, secret: bytes, info: bytes) -> bytes:
        """See ``KeyTests``."""
        return self.connect(recipient).seal(secret, info)

    def test_ids_are_made_from_what_names_the_key(self) -> None:
        recipient = self.make_recipient("one")
        assert recipient.is_service
        assert recipient.public == b""
        assert recipient.recipient_id == service_id(recipient.kind, recipient.extra)

    def test_a_swapped_address_is_refused(self) -> None:
        one, two = self.make_recipient("one"), self.make_recipient("two")
        with pytest.raises(IntegrityFailure):
            self.connect(replace(one, extra=two.extra))

    @pytest.mark.parametrize(
        "extra", [b"", b"\x91\x01", b"\xc1", b"\x92\x01\xa0", b"\x92\x01\xa3a\0b", bytes(2000)]
    )
    def test_an_address_that_is_none_is_refused(self, extra: bytes) -> None:
        kind = self.make_recipient("one").kind
        with pytest.raises(IntegrityFailure):
            self.connect(Recipient(service_id(kind, extra), kind, "", b"", 1, extra))

    def test_an_address_of_a_newer_version_is_refused_by_name(self) -> None:
        recipient = self.make_recipient("one")
        extra = recipient.extra[:1] + b"\x02" + recipient.extra[2:]
        newer = replace(recipient, extra=extra, recipient_id=service_id(recipient.kind, extra))
        with pytest.raises(UnsupportedVersion):
            self.connect(newer)

    def test_seals_are_as_short_as_the_format_wants(self) -> None:
        recipient = self.make_recipient("one")
        assert 32 < len(self.seal(recipient, _SECRET, _INFO)) <= MAX_SEAL_BYTES

    @pytest.mark.parametrize("info", [b"", b"donjon/v1/x\0" + bytes(17), b"other/v1/x\0" + bytes(16)])
    def test_nothing_is_sealed_for_an_odd_purpose(self, info: bytes) -> None:
        recipient = self.make_recipient("one")
        with pytest.raises(KeyNotAvailable):
            self.connect(recipient).seal(_SECRET, info)
