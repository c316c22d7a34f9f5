"""A key on a PKCS #11 token, such as an HSM, as a recipient: an AES key, or an RSA key pair.

With an AES key whoever seals can open too: both take its PIN, and only an RSA key parts them. Its public half
is used without a PIN, its private half with one. Source of the mechanisms: PKCS #11 Mechanisms 2.40, sections
2.1.8 (RSA-OAEP) and 2.14 (AES key wrap with padding, which is RFC 5649 on the tokens tried).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

from donjon.core.errors import CredentialsRejected, DonjonError, KeyNotAvailable, UsageError
from donjon.core.operations import Operation
from donjon.keys import faults
from donjon.keys.address import read_key
from donjon.keys.base import PKCS11, Recipient
from donjon.keys.info import bound, unbound

#: What a key must allow: attributes of AES keys, or of the halves of an RSA key.
SEAL: Final = Operation("wrap", "seal with", ("CKA_WRAP (AES) or CKA_ENCRYPT (RSA)",))
OPEN: Final = Operation("unwrap", "open with", ("CKA_UNWRAP (AES) or CKA_DECRYPT (RSA)",))
#: What each method takes, for roles and their policies.
PERMISSIONS: Final[dict[str, tuple[Operation, ...]]] = {"seal": (SEAL,), "open": (OPEN,)}

MODULE: Final = "DONJON_PKCS11_MODULE"
PIN_FILE: Final = "DONJON_PKCS11_PIN_FILE"

#: Mechanisms of seals; see docs/format.md, "Key services".
AES_KEY_WRAP_PAD: Final = 1
RSA_OAEP_SHA256: Final = 2
RSA_OAEP_SHA1: Final = 3

_FORM: Final = "pkcs11:token=LABEL;object=LABEL"
_PART: Final = re.compile(r"(token|object)=((?:[A-Za-z0-9._~:\[\]@!$'()*+,=&-]|%[0-9A-Fa-f]{2})+)")
#: What tokens say of a wrapped key that was changed or is another's; SoftHSM2 knows no better word.
_NOT_ITS_OWN: Final = (
    "WrappedKeyInvalid", "WrappedKeyLenRange", "EncryptedDataInvalid", "EncryptedDataLenRange", "DataInvalid",
    "DataLenRange", "GeneralError",
)  # fmt: skip
_BAD_PIN: Final = ("PinIncorrect", "PinInvalid", "PinLenRange", "PinLocked", "PinExpired")
_WITHOUT_PIN: Final = ("UserNotLoggedIn", "UserPinNotInitialized")
#: The session is gone with these; another one may do.
_AWAY: Final = (
    "DeviceError", "DeviceMemory", "DeviceRemoved", "SessionClosed", "SessionCount", "SessionHandleInvalid",
    "TokenNotPresent", "HostMemory", "ObjectHandleInvalid",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TokenAddress:
    """A key by the label of its token and its own, as in RFC 7512."""

    token: str
    label: str

    @classmethod
    def parse(cls, text: str) -> TokenAddress:
        """From what is behind ``pkcs11:``. Raises ``UsageError``.

        Modules, PINs and slots are another matter on each machine and are not taken.
        """
        parts = [_PART.fullmatch(part) for part in text.split(";")]
        found = {part[1]: unquote(part[2], errors="replace") for part in parts if part is not None}
        if None in parts or len(parts) != 2 or len(found) != 2 or not _printable(*found.values()):
            msg = f"{PKCS11}: that names no key on a token"  # there may be a PIN in it, so it is not shown
            raise UsageError(
                msg, hint=f"Write {_FORM}; module and PIN are told by {MODULE} and {PIN_FILE}, never here."
            )
        return cls(found["token"], found["object"])

    @classmethod
    def of(cls, recipient: Recipient) -> TokenAddress:
        """The key of a recipient. Raises ``IntegrityFailure``."""
        return read_key(recipient, 2, lambda *labels: cls.parse(cls(*labels).uri.partition(":")[2]))

    @property
    def kind(self) -> str:
        """See ``KeyAddress``."""
        return PKCS11

    @property
    def fields(self) -> tuple[str, ...]:
        """See ``KeyAddress``."""
        return self.token, self.label

    @property
    def uri(self) -> str:
        """See ``KeyAddress``."""
        return f"{PKCS11}:token={quote(self.token, safe='')};object={quote(self.label, safe='')}"

    @property
    def identity(self) -> tuple[str, ...]:
        """See ``KeyAddress``."""
        return PKCS11, *self.fields


class Pkcs11Key:
    """Seals and opens by asking a token, one request at a time, as a session serves one."""

    def __init__(self, recipient: Recipient, environment: Mapping[str, str]) -> None:
        """Module and PIN come from ``environment``. Raises ``IntegrityFailure``."""
        self.recipient_id: Final = recipient.recipient_id
        self._address: Final = TokenAddress.of(recipient)
        self._environment = environment
        self._session: Any = None
        self._mutex = threading.Lock()

    def seal(self, secret: bytes, info: bytes) -> bytes:
        """See ``KeyService``. The kind of the key decides how."""
        wrapped = bound(secret, info)
        return self._ask(SEAL, lambda session: self._wrap(session, wrapped))

    def open(self, sealed: bytes, info: bytes) -> bytes:
        """See ``Opener``."""
        if len(sealed) < 2 or sealed[0] not in {AES_KEY_WRAP_PAD, RSA_OAEP_SHA256, RSA_OAEP_SHA1}:
            raise faults.not_its_own(self._address.uri)
        opened = self._ask(OPEN, lambda session: self._unwrap(session, sealed[0], sealed[1:]))
        return unbound(opened, info, self._address.uri)

    def __repr__(self) -> str:
        """The address."""
        return f"Pkcs11Key({self._address.uri})"

    def _ask(self, operation: Operation, work: Any) -> bytes:
        with self._mutex:
            try:
                if self._session is None:
                    self._session = _open_session(self._address, self._environment)
                return bytes(work(self._session))
            except DonjonError:
                raise
            except Exception as error:
                found = _translated(error, operation, self._address)
                if type(error).__name__ in _AWAY:
                    self._session = None
                raise found from error

    def _wrap(self, session: Any, wrapped: bytes) -> bytes:
        import pkcs11

        aes = self._find(session, pkcs11.ObjectClass.SECRET_KEY, pkcs11.KeyType.AES)
        if aes is not None:
            return _wrap_with_aes(session, self._allowed(aes, "wrap_key", SEAL), wrapped)
        rsa = self._find(session, pkcs11.ObjectClass.PUBLIC_KEY, pkcs11.KeyType.RSA)
        if rsa is not None:
            return _encrypt_with_rsa(self._allowed(rsa, "encrypt", SEAL), wrapped)
        raise self._no_key()

    def _unwrap(self, session: Any, mechanism: int, wrapped: bytes) -> bytes:
        import pkcs11

        aes = mechanism == AES_KEY_WRAP_PAD
        if aes:
            key = self._find(session, pkcs11.ObjectClass.SECRET_KEY, pkcs11.KeyType.AES)
        else:
            key = self._find(session, pkcs11.ObjectClass.PRIVATE_KEY, pkcs11.KeyType.RSA)
        if key is None:
            raise self._no_key()
        if not aes:
            oaep = {"mechanism": pkcs11.Mechanism.RSA_PKCS_OAEP, "mechanism_param": _oaep(mechanism)}
            return bytes(self._allowed(key, "decrypt", OPEN).decrypt(wrapped, **oaep))
        opened = self._allowed(key, "unwrap_key", OPEN).unwrap_key(
            pkcs11.ObjectClass.SECRET_KEY,
            pkcs11.KeyType.GENERIC_SECRET,
            wrapped,
            mechanism=pkcs11.Mechanism.AES_KEY_WRAP_PAD,
            template=_passing(),
        )
        try:
            return bytes(opened[pkcs11.Attribute.VALUE])
        finally:
            opened.destroy()

    def _find(self, session: Any, kind: Any, key_type: Any) -> Any:
        """The key of this kind, None if there is none to be seen."""
        import pkcs11

        try:
            return session.get_key(label=self._address.label, object_class=kind, key_type=key_type)
        except pkcs11.NoSuchKey:
            return None

    def _allowed(self, key: Any, method: str, operation: Operation) -> Any:
        """The key, if its attributes allow this: the library gives it no such method otherwise."""
        if not hasattr(key, method):
            raise faults.denied(self._address.uri, operation, "in the attributes of the key")
        return key

    def _no_key(self) -> KeyNotAvailable:
        look = "Check the labels."
        if _pin(self._environment) is None:
            look = f"Check the labels; most keys are to be seen with a PIN only, told by {PIN_FILE}."
        return faults.not_there(self._address.uri, look)


def _open_session(address: TokenAddress, environment: Mapping[str, str]) -> Any:
    """A session on the token, logged in if there is a PIN. A session of this process may be so already."""
    try:
        import pkcs11
    except ImportError as error:
        msg = "PKCS #11 needs a package that is not installed"
        raise UsageError(msg, hint="Run: pip install 'donjon[pkcs11]'") from error
    module = environment.get(MODULE)
    if not module:
        msg = f"{address.uri}: which module reaches the token is not known"
        raise UsageError(msg, hint=f"Set {MODULE} to its path, such as /usr/lib/softhsm/libsofthsm2.so.")
    token = _library(module).get_token(token_label=address.token)
    try:
        return token.open(user_pin=_pin(environment))
    except pkcs11.UserAlreadyLoggedIn:
        return token.open()


def _library(module: str) -> Any:
    import pkcs11

    try:
        return pkcs11.lib(module)
    except pkcs11.PKCS11Error as error:
        msg = f"{module}: is no module of PKCS #11, or cannot be loaded"
        raise UsageError(msg, hint=f"Set {MODULE} to the library that came with the token.") from error


def _pin(environment: Mapping[str, str]) -> str | None:
    if path := environment.get(PIN_FILE):
        try:
            return Path(path).read_text().removesuffix("\n").removesuffix("\r")
        except (OSError, UnicodeDecodeError) as error:
            msg = f"{path}: the PIN cannot be read"
            raise CredentialsRejected(msg, hint=f"Look at {PIN_FILE}.") from error
    return None


def _wrap_with_aes(session: Any, key: Any, wrapped: bytes) -> bytes:
    """Wrapping takes an object of the token, so the secret becomes one for a moment."""
    import pkcs11

    passing = _passing() | {
        pkcs11.Attribute.CLASS: pkcs11.ObjectClass.SECRET_KEY,
        pkcs11.Attribute.KEY_TYPE: pkcs11.KeyType.GENERIC_SECRET,
        pkcs11.Attribute.VALUE: wrapped,
    }
    guest = session.create_object(passing)
    try:
        sealed = key.wrap_key(guest, mechanism=pkcs11.Mechanism.AES_KEY_WRAP_PAD)
        return bytes([AES_KEY_WRAP_PAD]) + bytes(sealed)
    finally:
        guest.destroy()


def _passing() -> dict[Any, bool]:
    import pkcs11

    attribute = pkcs11.Attribute
    return {attribute.TOKEN: False, attribute.SENSITIVE: False, attribute.EXTRACTABLE: True}


def _encrypt_with_rsa(key: Any, wrapped: bytes) -> bytes:
    """With SHA-256, or with SHA-1 on tokens that know no other; OAEP does not rely on collisions."""
    import pkcs11

    oaep = pkcs11.Mechanism.RSA_PKCS_OAEP
    try:
        sealed = key.encrypt(wrapped, mechanism=oaep, mechanism_param=_oaep(RSA_OAEP_SHA256))
        return bytes([RSA_OAEP_SHA256]) + bytes(sealed)
    except (pkcs11.ArgumentsBad, pkcs11.MechanismParamInvalid):
        sealed = key.encrypt(wrapped, mechanism=oaep, mechanism_param=_oaep(RSA_OAEP_SHA1))
        return bytes([RSA_OAEP_SHA1]) + bytes(sealed)


def _oaep(mechanism: int) -> tuple[Any, Any, None]:
    import pkcs11

    if mechanism == RSA_OAEP_SHA256:
        return pkcs11.Mechanism.SHA256, pkcs11.MGF.SHA256, None
    return pkcs11.Mechanism.SHA_1, pkcs11.MGF.SHA1, None


def _translated(error: Exception, operation: Operation, address: TokenAddress) -> DonjonError:
    """Our error for one of the library; what is none of it comes out as it is."""
    import pkcs11

    if not isinstance(error, pkcs11.PKCS11Error):
        raise error
    said, key = type(error).__name__, address.uri
    reason = f"{key}: cannot {operation.action} this key: {said}"
    found: DonjonError
    if said == "NoSuchToken":
        found = faults.not_there(key, f"Plug in the token {address.token}, and look at {MODULE}.")
    elif said in {"MultipleObjectsReturned", "MultipleTokensReturned"}:
        found = KeyNotAvailable(
            f"{key}: names more than one", hint="Give token and key a label of their own."
        )
    elif said in _BAD_PIN:
        hint = "Tokens lock after a few wrong PINs: look before you try again."
        found = CredentialsRejected(f"{key}: the PIN is not accepted: {said}", hint=hint)
    elif said in _WITHOUT_PIN:
        found = CredentialsRejected(f"{key}: needs its PIN", hint=f"Give it in a file: {PIN_FILE}.")
    elif said in _AWAY:
        found = faults.unavailable(reason, "Look whether the token is there")
    elif operation is OPEN and said in _NOT_ITS_OWN:
        found = faults.not_its_own(key)
    elif said == "PKCS11Error" or said.startswith(("Function", "Key", "Wrapping", "Unwrapping")):
        found = faults.denied(key, operation, "in the attributes of the key")
    else:
        found = KeyNotAvailable(reason, hint="Look at the key and at the log of the module.")
    return found


def _printable(*labels: str) -> bool:
    return all(label.isprintable() and label == label.strip() and "\ufffd" not in label for label in labels)
