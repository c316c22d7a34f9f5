"""Addresses that people write."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

from donjon.core.errors import UsageError


def split_address(text: str) -> SplitResult:
    """The parts of an address, as ``urlsplit`` finds them. Raises ``UsageError`` if it has none.

    ``urlsplit`` raises ``ValueError`` for brackets around no IPv6 address, and its ``port`` for one that is
    no number up to 65535.
    """
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError as error:
        msg = f"{text!r} is no address: {error}"
        raise UsageError(msg, hint="Correct the host and the port; IPv6 addresses go in brackets.") from error
    return parts
