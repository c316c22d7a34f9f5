"""What every pair of recipient and opener must do. Subclass ``KeyTests`` for a new kind of key.

::

    class TestMyKms(KeyTests):
        def make(self, name: str) -> tuple[Recipient, Opener]: ...
        def reopen(self, recipient: Recipient) -> Opener: ...
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from donjon.core.errors import IntegrityFailure, KeyNotAvailable
from donjon.keys.base import RECIPIENT_ID_BYTES, Opener, Recipient, recipient_id

_SECRET: Final = bytes(range(32))
_INFO: Final = b"donjon/v1/key-tests\0" + bytes(16)
_SHUT: Final = (KeyNotAvailable, IntegrityFailure)


class KeyTests(ABC):
    """The conformance suite of the port ``donjon.keys.base``."""

    @abstractmethod
    def make(self, name: str) -> tuple[Recipient, Opener]:
        """A recipient with a fresh key, and its opener."""

    @abstractmethod
    def reopen(self, recipient: Recipient) -> Opener:
        """The opener of a recipient that ``make`` made, from what its owner keeps and its public bytes."""

    def test_opens_what_was_sealed(self) -> None:
        recipient, opener = self.make("one")
        assert opener.open(recipient.seal(_SECRET, _INFO), _INFO) == _SECRET

    def test_opens_later_from_what_its_owner_keeps(self) -> None:
        recipient, opener = self.make("one")
        again = self.reopen(recipient)
        assert again.recipient_id == opener.recipient_id
        assert again.open(recipient.seal(_SECRET, _INFO), _INFO) == _SECRET

    def test_ids_are_made_from_the_public_key(self) -> None:
        recipient, opener = self.make("one")
        assert len(recipient.recipient_id) == RECIPIENT_ID_BYTES
        assert recipient.recipient_id == opener.recipient_id == recipient_id(recipient.public)

    def test_keys_are_fresh(self) -> None:
        one, two = self.make("one")[0], self.make("one")[0]
        assert one.recipient_id != two.recipient_id
        assert one.public != two.public

    def test_two_seals_differ(self) -> None:
        recipient, _ = self.make("one")
        assert recipient.seal(_SECRET, _INFO) != recipient.seal(_SECRET, _INFO)

    def test_another_key_does_not_open(self) -> None:
        sealed = self.make("one")[0].seal(_SECRET, _INFO)
        with pytest.raises(KeyNotAvailable):
            self.make("two")[1].open(sealed, _INFO)

    @pytest.mark.parametrize("info", [b"", _INFO[:-1], _INFO + b"\0", _INFO.replace(b"v1", b"v2")])
    def test_another_info_does_not_open(self, info: bytes) -> None:
        recipient, opener = self.make("one")
        with pytest.raises(KeyNotAvailable):
            opener.open(recipient.seal(_SECRET, _INFO), info)

    def test_a_flipped_bit_does_not_open(self) -> None:
        recipient, opener = self.make("one")
        sealed = recipient.seal(_SECRET, _INFO)
        for at in range(0, len(sealed), 29):
            changed = bytearray(sealed)
            changed[at] ^= 1 << at % 8
            with pytest.raises(_SHUT):
                opener.open(bytes(changed), _INFO)

    def test_a_wrong_length_does_not_open(self) -> None:
        recipient, opener = self.make("one")
        sealed = recipient.seal(_SECRET, _INFO)
        for cut in (b"", sealed[:1], sealed[: len(sealed) // 2], sealed[:-1], sealed + b"\0"):
            with pytest.raises(_SHUT):
                opener.open(cut, _INFO)

    def test_a_swapped_public_key_is_refused(self) -> None:
        one, two = self.make("one")[0], self.make("two")[0]
        forged = Recipient(one.recipient_id, one.kind, one.name, two.public, one.created_at, one.extra)
        with pytest.raises(IntegrityFailure):
            forged.seal(_SECRET, _INFO)

    def test_opens_in_many_threads(self) -> None:
        recipient, opener = self.make("one")
        sealed = [recipient.seal(bytes([number]) * 32, _INFO) for number in range(16)]
        with ThreadPoolExecutor(4) as pool:
            opened = list(pool.map(lambda each: opener.open(each, _INFO), sealed))
        assert opened == [bytes([number]) * 32 for number in range(16)]

    def test_shows_no_secret(self) -> None:
        recipient, opener = self.make("one")
        for shown in (repr(recipient), repr(opener), str(opener)):
            assert len(shown) < 200
