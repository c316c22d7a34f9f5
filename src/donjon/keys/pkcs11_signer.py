"""Ed25519 keys that a PKCS #11 token keeps: it signs (CKM_EDDSA), and the private key never leaves it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from donjon.codec.sign import PUBLIC_BYTES, Buffer, verify
from donjon.core.errors import IntegrityFailure, KeyNotAvailable, Refused
from donjon.keys.pkcs11 import TokenAddress
from donjon.keys.pkcs11_token import AskPin, open_token

if TYPE_CHECKING:
    from pkcs11 import PublicKey, Session, SignMixin

#: A point of 32 bytes as a DER octet string, as PKCS #11 3.0 says; older tokens give the bytes alone.
_DER_PREFIX: Final = b"\x04\x20"
_ED25519: Final = "1.3.101.112"


class TokenSigner:
    """An Ed25519 key on a token, for as long as its session is open."""

    def __init__(self, key: TokenAddress, private: SignMixin, public: bytes) -> None:
        self._key = key
        self._private = private
        self._public = public

    @property
    def public(self) -> bytes:
        """The public key, 32 bytes."""
        return self._public

    def sign(self, message: Buffer) -> bytes:
        """The 64-byte signature, checked before it is given out. Raises ``KeyNotAvailable``."""
        from pkcs11 import Mechanism

        signature = self._private.sign(bytes(message), mechanism=Mechanism.EDDSA)
        try:
            verify(self._public, message, signature)
        except IntegrityFailure as error:
            msg = f"{self._key.uri}: the token made a signature that its public key does not verify"
            raise KeyNotAvailable(
                msg, hint="The two halves do not belong together, or it is broken."
            ) from error
        return signature


@contextlib.contextmanager
def open_signer(key: TokenAddress, module: Path | None, ask_pin: AskPin) -> Iterator[TokenSigner]:
    """The key of this name, until the block ends.

    Raises ``KeyNotAvailable`` if token or key are not there, the PIN is wrong, or it is no Ed25519 key.
    """
    with open_token(key.token, module, ask_pin) as session:
        private, public = _find(session, key)
        if private is None or public is None:
            msg = f"{key.uri}: there is no such Ed25519 key pair"
            raise KeyNotAvailable(msg, hint="Make one: `donjon approver new NAME --key pkcs11:...`.")
        yield TokenSigner(key, private, _point(key, public))


def create_key(key: TokenAddress, module: Path | None, ask_pin: AskPin) -> bytes:
    """Make an Ed25519 key on the token, which never gives it out, and tell its public half, 32 bytes.

    Raises ``Refused`` if there is a key of this name already, ``KeyNotAvailable``.
    """
    from pkcs11 import Attribute, KeyType, Mechanism
    from pkcs11.util.ec import encode_named_curve_parameters

    with open_token(key.token, module, ask_pin, write=True) as session:
        if _find(session, key) != (None, None):
            msg = f"{key.uri}: is there already, and is never overwritten"
            raise Refused(msg, hint="Choose another name for the object.")
        curve = {Attribute.EC_PARAMS: encode_named_curve_parameters(_ED25519)}
        domain = session.create_domain_parameters(KeyType.EC_EDWARDS, curve, local=True)
        secret = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False, Attribute.PRIVATE: True}
        public, _ = domain.generate_keypair(
            mechanism=Mechanism.EC_EDWARDS_KEY_PAIR_GEN,
            label=key.label,
            store=True,
            private_template=secret,
        )
        return _point(key, public)


def _find(session: Session, key: TokenAddress) -> tuple[SignMixin | None, PublicKey | None]:
    """The two halves. Raises ``KeyNotAvailable`` if several keys have this name."""
    from pkcs11 import Attribute, KeyType, ObjectClass

    halves = []
    for kind in (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY):
        wanted = {
            Attribute.CLASS: kind,
            Attribute.KEY_TYPE: KeyType.EC_EDWARDS,
            Attribute.LABEL: key.label,
        }
        found = list(session.get_objects(wanted))
        if len(found) > 1:
            msg = f"{key.uri}: there are several keys of this name"
            raise KeyNotAvailable(msg, hint="Give the objects names of their own.")
        halves.append(found[0] if found else None)
    return halves[0], halves[1]  # type: ignore[return-value]  # a listing knows only of objects


def _point(key: TokenAddress, public: PublicKey) -> bytes:
    from pkcs11 import Attribute

    point = bytes(public[Attribute.EC_POINT])
    if len(point) == PUBLIC_BYTES + len(_DER_PREFIX) and point.startswith(_DER_PREFIX):
        point = point[len(_DER_PREFIX) :]
    if len(point) != PUBLIC_BYTES:
        msg = f"{key.uri}: is no Ed25519 key"
        raise KeyNotAvailable(msg, hint="Make one: `donjon approver new NAME --key pkcs11:...`.")
    return point
