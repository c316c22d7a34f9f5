"""Canaries: objects of the drill's own, which attacks are tried on.

A canary is a pack without any data, signed by a writer, so that it lies where real packs lie and the
policies for these hold for it. Nothing refers to it: ``verify`` finds nothing wrong with it, no writer relies
on it, and the reaper takes it once its lock has ended, like every pack that nothing needs. Where no writer's
key is at hand it is a piece of evidence instead, which anybody may sign who signs anything.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from donjon.codec.digest import digest
from donjon.codec.sign import SigningKey
from donjon.format import names
from donjon.format.evidence import Outcome, evidence_row
from donjon.format.limits import MAX_NUMBER
from donjon.format.pack import PackKind, Trailer, footer_key, seal_footer, sign_trailer
from donjon.repository.credential import WriterCredential
from donjon.repository.evidence import sign_evidence
from donjon.repository.vault import Vault
from donjon.version import __version__

#: No session comes to this number, so canaries are never taken for packs of a backup.
_SESSION = MAX_NUMBER
_MAX_ORDINAL = 4_194_303
KIND = "canary"


@dataclass(frozen=True, slots=True)
class Canary:
    """Name and bytes of a canary that is not put yet."""

    name: str
    data: bytes


MakeCanary = Callable[[], Canary]


def canary_pack(vault_id: bytes, credential: WriterCredential) -> Canary:
    """An empty pack of this writer."""
    writer, ordinal = credential.writer_id, secrets.randbelow(_MAX_ORDINAL + 1)
    key = footer_key(credential.secret.index_key, writer, _SESSION, ordinal)
    footer, sealed_length = seal_footer(key, [], 0)
    trailer = Trailer(PackKind.DATA, vault_id, writer, _SESSION, ordinal, sealed_length, digest(footer), b"")
    data = footer + sign_trailer(trailer, credential.signing_key)
    return Canary(names.pack(digest(data)), data)


def canary_evidence(vault: Vault, key: SigningKey) -> Canary:
    """Evidence of nothing, signed by a custodian or an auditor."""
    row = evidence_row("nothing", "", secrets.token_hex(16), Outcome.SKIPPED)
    signed = sign_evidence(
        vault, key, kind=KIND, program=f"donjon {__version__}", subject="a canary of a drill", rows=[row]
    )
    return Canary(names.evidence(signed.digest), signed.data)
