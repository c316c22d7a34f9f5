"""Shares of a kit: whatever a file says, it is a share of ours, or an error of ours that tells why not."""

from __future__ import annotations

import itertools

from blake3 import blake3

from donjon.keys import share_payload, share_text
from donjon.keys.recovery import RecoveryKit, kit_to_text
from donjon.keys.shares import join, read_share, split_kit
from tests.fuzz.fuzzing import changed_bytes, changed_text, fuzz

KIT = RecoveryKit.generate(
    vault_id=bytes(16), vault_name="v", vault_url="file:///v", created_at=1, with_root=True
)
TEXTS = [split_kit(kit_to_text(KIT), 2, 3, now) for now in (1, 2)]
SHARES = [[read_share(text) for text in texts] for texts in TEXTS]
WORDS = {share.words.words for share in itertools.chain(*SHARES)}
SETS = [share_set for shares in SHARES if (share_set := shares[0].set) is not None]


def test_texts_of_shares() -> None:
    def parse(text: str) -> None:
        found = read_share(text)
        assert found.words.words in WORDS
        assert found.set is None or found.set in SETS

    codes = [share_text.to_qr(share.words, share.set) for share in SHARES[0] if share.set is not None]
    assert fuzz(parse, changed_text([*itertools.chain(*TEXTS), *codes]))


def test_sealed_kits_with_a_checksum_that_fits() -> None:
    """By somebody who can compute checksums: it is not opened, whatever it claims to be."""

    def parse(body: bytes) -> None:
        forged = share_payload.decode(body + blake3(body).digest(8), "share")
        if forged in SETS:
            return
        assert 2 <= forged.needed <= forged.count <= 16
        shares = [share_text.ShareText(share.words, forged) for share in SHARES[0][:2]]
        joined = [read_share(share_text.to_text(share.words, forged)) for share in shares]
        raise AssertionError(join(joined))

    assert fuzz(parse, changed_bytes([share_set.encode()[:-8] for share_set in SETS]))
