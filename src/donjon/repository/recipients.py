"""Whether enough keys open a vault that losing one of them loses nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from donjon.format import names
from donjon.keys.base import Recipient

#: So many keys must open every backup, each independent of the others: guarantee G5 of the threat model.
FEWEST: Final = 2

HOW_TO_ADD: Final = "`donjon keys add kit --out FILE --name NAME`"


def weaknesses(recipients: Iterable[Recipient]) -> list[str]:
    """What is wrong with these recipients of a vault, for people; empty if nothing is."""
    found = list(recipients)
    if len(found) < FEWEST:
        return [f"one key alone opens this vault: lose it and all is lost. Add one: {HOW_TO_ADD}"]
    if all(recipient.is_service for recipient in found):
        return [f"nothing but key services opens this vault, which others can close. Add a kit: {HOW_TO_ADD}"]
    return []


def poorly_sealed(
    sealed_to: Mapping[tuple[bytes, int], Collection[bytes]], recipients: Collection[bytes]
) -> list[str]:
    """The names of sessions that fewer than two of the vault's present recipients can open.

    ``sealed_to`` has the ids of those to whom each session is sealed.
    """
    return [
        names.session(*session)
        for session, ids in sorted(sealed_to.items())
        if sum(each in recipients for each in ids) < FEWEST
    ]
