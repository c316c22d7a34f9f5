"""What the drill of a lost KMS counts and refuses, where a real service could not show it."""

from __future__ import annotations

import contextlib

import pytest

from donjon.core.errors import KeyNotAvailable
from donjon.core.events import Silent, never_stop
from donjon.drills.key_loss import Loss, ServicesGone, drill_key_loss
from donjon.format.evidence import Outcome, passed
from donjon.keys.base import AWS_KMS, Recipient, service_id
from donjon.repository.cache import Cache
from donjon.repository.index import Index
from donjon.repository.reading import ChunkReader
from donjon.repository.vault import Vault
from tests.unit.test_keyring import _place


def _service(number: int) -> Recipient:
    extra = bytes([number])
    return Recipient(service_id(AWS_KMS, extra), AWS_KMS, "kms", b"", 1, extra)


def test_services_that_are_gone_are_never_reached() -> None:
    gone = ServicesGone()
    for number in range(3):
        with pytest.raises(KeyNotAvailable, match="taken its aws-kms away"):
            gone(_service(number))
    assert gone.asked == 3


@pytest.mark.parametrize("asks", [False, True])
def test_who_asks_a_service_behind_the_back_of_the_drill_fails_it(
    asks: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = _place()
    vault = place.open()

    def make_reader(opened: Vault) -> ChunkReader:
        if asks:
            with contextlib.suppress(KeyNotAvailable):
                opened.connect(_service(1))
        return ChunkReader(opened, Index(Cache(tmp_path_factory.mktemp("cache"))))

    rows = list(drill_key_loss(vault, Loss(place.kit.opener(), 4), make_reader, Silent(), never_stop))
    assert passed(tuple(rows)) is not asks
    assert rows[-1].outcome is (Outcome.FAILED if asks else Outcome.PASSED)
    assert rows[-1].seen == ("1 times" if asks else "nobody")


def test_a_key_that_was_at_hand_before_is_not_used() -> None:
    """The vault comes with an opener of everything; the drill's kit is a stranger's."""
    place, stranger = _place(), _place()
    vault = place.open(place.kit)
    rows = list(
        drill_key_loss(
            vault, Loss(stranger.kit.opener(), 4), lambda _: pytest.fail("read"), Silent(), never_stop
        )
    )
    assert [row.outcome for row in rows] == [Outcome.SKIPPED, Outcome.FAILED]
    assert vault.openers == []
