"""Tokens behind PKCS #11: naming a key on one (RFC 7512), and a session that is logged in."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from donjon.core.errors import KeyNotAvailable, UsageError
from donjon.keys.pkcs11 import TokenAddress

if TYPE_CHECKING:
    from pkcs11 import PKCS11Error, Session
    from pkcs11._pkcs11 import lib as Library  # noqa: N812  (it is a class)

SCHEME: Final = "pkcs11:"
_MAX_PIN_FILE_BYTES: Final = 4 << 10

#: Gives the PIN of the token with this label; raises ``KeyNotAvailable`` if there is none.
AskPin = Callable[[str], str]


def parse_key(uri: str) -> TokenAddress:
    """The key that a URI of RFC 7512 names by its token and itself.

    Raises ``UsageError``, which does not repeat the URI: people put PINs there.
    """
    scheme, _, path = uri.partition(":")
    if f"{scheme}:" != SCHEME:
        msg = "that names no key on a token"
        raise UsageError(msg, hint="Name it as pkcs11:token=LABEL;object=LABEL.")
    return TokenAddress.parse(path)


@contextlib.contextmanager
def open_token(label: str, module: Path | None, ask_pin: AskPin, *, write: bool = False) -> Iterator[Session]:
    """A session with the token of this label, logged in as its user until the block ends.

    ``module`` is the library of the token's maker. Raises ``KeyNotAvailable`` if there is no such library or
    token, or the PIN is wrong or locked; what fails within the block because of the token, too.
    """
    library = _load(label, module)
    from pkcs11 import PKCS11Error, UserAlreadyLoggedIn

    try:
        token = library.get_token(token_label=label)
        try:
            session = token.open(rw=write, user_pin=ask_pin(label))
        except UserAlreadyLoggedIn:  # this process opens the vault with a key on the same token
            session = token.open(rw=write)
        with session:
            yield session
    except PKCS11Error as error:
        message, hint = _explained(error)
        raise KeyNotAvailable(f"{label}: {message}", hint=hint) from error


def _load(label: str, module: Path | None) -> Library:
    hint = "Name the .so file of the token's maker with --pkcs11-module FILE or DONJON_PKCS11_MODULE."
    if module is None:
        msg = f"{label}: no library given that reaches this token"
        raise KeyNotAvailable(msg, hint=hint)
    try:
        import pkcs11
    except ImportError as error:
        msg = f"{label}: keys on tokens need the extra pkcs11"
        raise KeyNotAvailable(msg, hint="Install it: pip install 'donjon[pkcs11]'") from error
    try:
        return pkcs11.lib(str(module))
    except (pkcs11.PKCS11Error, OSError) as error:
        msg = f"{module}: is no library that reaches tokens"
        raise KeyNotAvailable(msg, hint=hint) from error


def pin_from_file(path: Path) -> str:
    """The first line of a file. Raises ``KeyNotAvailable``."""
    try:
        with path.open("rb") as file:
            pin = file.read(_MAX_PIN_FILE_BYTES).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: the PIN cannot be read"
        raise KeyNotAvailable(msg, hint="Name a file whose only line is the PIN.") from error
    if not pin or not pin[0]:
        msg = f"{path}: is empty"
        raise KeyNotAvailable(msg, hint="Name a file whose only line is the PIN.")
    return pin[0]


def _explained(error: PKCS11Error) -> tuple[str, str]:
    """What happened, and what to do."""
    import pkcs11

    match error:
        case pkcs11.NoSuchToken() | pkcs11.TokenNotPresent() | pkcs11.TokenNotRecognised():
            found = "there is no token of this label", "Plug it in, and look at its label."
        case pkcs11.MultipleTokensReturned():
            found = "there are several tokens of this label", "Unplug the others."
        case pkcs11.PinLocked():
            found = "the PIN is locked after too many wrong ones", "Unlock the token as its maker says."
        case pkcs11.PinIncorrect() | pkcs11.PinInvalid() | pkcs11.PinLenRange():
            found = "the PIN is wrong", "Try again with care: tokens lock after a few wrong PINs."
        case pkcs11.DeviceRemoved():
            found = "the token was pulled out", "Plug it in and try again."
        case _:
            found = f"the token refuses: {type(error).__name__}", "See its maker's manual."
    return found
