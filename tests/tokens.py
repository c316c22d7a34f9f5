"""Keys on tokens of SoftHSM2, for tests."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator

import pkcs11

from donjon.testing.servers.softhsm import SoftHsm


@contextlib.contextmanager
def opened(hsm: SoftHsm, token: str) -> Iterator[pkcs11.Session]:
    """A session that may make keys, while other sessions of this process may be logged in."""
    found = pkcs11.lib(hsm.environment["DONJON_PKCS11_MODULE"]).get_token(token_label=token)
    try:
        session = found.open(rw=True, user_pin=hsm.pin)
    except pkcs11.UserAlreadyLoggedIn:
        session = found.open(rw=True)
    yield session
    session.close()


def make_aes(session: pkcs11.Session, label: str, value: bytes | None = None, *, wrap: bool = True) -> None:
    attribute = pkcs11.Attribute
    session.create_object(
        {
            attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
            attribute.KEY_TYPE: pkcs11.KeyType.AES,
            attribute.VALUE: value or secrets.token_bytes(32),
            attribute.LABEL: label,
            attribute.TOKEN: True,
            attribute.PRIVATE: True,
            attribute.SENSITIVE: True,
            attribute.EXTRACTABLE: False,
            attribute.WRAP: wrap,
            attribute.UNWRAP: wrap,
        }
    )


def make_rsa(session: pkcs11.Session, label: str) -> None:
    """A key pair whose public half is to be seen without a PIN."""
    session.generate_keypair(pkcs11.KeyType.RSA, 2048, label=label, store=True)
