"""What a shared access signature (SAS) of Azure Storage says of itself. Pure; the signature is not kept.

Nobody lists the SAS of an account: Azure does not know which were made. What there is to know stands in the
SAS, in fields that its signature covers. Sources, called SERVICE, ACCOUNT and DELEGATION below:

- https://learn.microsoft.com/rest/api/storageservices/create-service-sas
- https://learn.microsoft.com/rest/api/storageservices/create-account-sas
- https://learn.microsoft.com/rest/api/storageservices/create-user-delegation-sas
"""

from __future__ import annotations

import base64
import binascii
import enum
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, NoReturn
from urllib.parse import unquote

from donjon.core.errors import UsageError

#: An HMAC-SHA256 (SERVICE, "Specify the signature").
_SIGNATURE_BYTES: Final = 32
_MAX_POLICY_CHARACTERS: Final = (
    64  # https://learn.microsoft.com/rest/api/storageservices/define-stored-access-policy
)
_GUID: Final = r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
#: The fields that are looked at, and the form of their values. Others are of no consequence here.
_FORMS: Final[Mapping[str, re.Pattern[str]]] = {
    name: re.compile(form)
    for name, form in {
        "sv": r"\d{4}-\d\d-\d\d", "ss": "[a-z]{1,8}", "srt": "[a-z]{1,8}", "sr": "[a-z]{1,4}",
        "sp": "[a-z]{1,26}", "st": ".+", "se": ".+", "skt": ".+", "ske": ".+", "spr": "https(?:,http)?",
        "sip": r"[0-9A-Fa-f.:]+(?:-[0-9A-Fa-f.:]+)?", "si": f".{{1,{_MAX_POLICY_CHARACTERS}}}",
        "skoid": _GUID, "sktid": _GUID, "sig": ".+",
    }.items()
}  # fmt: skip
#: https://learn.microsoft.com/rest/api/storageservices/formatting-datetime-values
_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d)(?::(\d\d)(?:\.\d{1,7})?)?(?:Z|([+-])(\d\d):(\d\d))?)?", re.ASCII
)


class SasKind(enum.Enum):
    """Who signs, and what for. The value is the ``kind`` of its ``Credential``."""

    ACCOUNT = "azure-account-sas"
    SERVICE = "azure-service-sas"
    DELEGATION = "azure-user-delegation-sas"

    @property
    def words(self) -> str:
        """For messages."""
        return self.value.removeprefix("azure-").replace("-", " ").replace("sas", "SAS")


@dataclass(frozen=True, slots=True)
class Sas:
    """The fields of a SAS but its signature. Times are in Unix seconds, None if the SAS does not tell.

    ``permissions`` is None if a stored access policy, named by ``policy``, has them. ``protocol`` is what may
    be used: ``https,http`` unless it says otherwise (SERVICE, "Specify the HTTP protocol"). ``signer`` and
    ``tenant`` are of the identity that signed a user delegation SAS, and ``key_starts_at`` and
    ``key_expires_at`` of its key, after which the SAS is refused whatever it says (DELEGATION).
    """

    kind: SasKind
    version: str
    permissions: str | None
    starts_at: int | None
    expires_at: int | None
    protocol: str = "https,http"
    ip: str = ""
    policy: str = ""
    services: str = ""
    resource_types: str = ""
    resource: str = ""
    signer: str = ""
    tenant: str = ""
    key_starts_at: int | None = None
    key_expires_at: int | None = None

    @property
    def begins(self) -> int | None:
        """Since when it works, None for "since it was made"."""
        return max((at for at in (self.starts_at, self.key_starts_at) if at is not None), default=None)

    @property
    def ends(self) -> int | None:
        """When it ends, None if it does not tell."""
        return min((at for at in (self.expires_at, self.key_expires_at) if at is not None), default=None)


def parse_sas(text: str) -> Sas:
    """What a SAS says, given as it is, with a question mark before it, or in the address of a resource.

    Raises ``UsageError`` if it is damaged or contradicts itself. No message quotes a value, for in a damaged
    one any value may hold the signature.
    """
    head, mark, query = text.strip().partition("?")
    fields = _fields(query if mark and "=" not in head else text.strip())
    kind = _kind(fields)
    if "si" not in fields and "sp" not in fields:
        _damaged("has no permissions (sp) and names no stored access policy (si)")
    for one in fields.get("sip", "").split("-") if "sip" in fields else ():
        _check_ip(one)
    if not fields.get("si", "").isprintable():
        _damaged("has characters in its policy (si) that cannot be shown")
    letters = fields.get("sp", "")
    if len(set(letters)) != len(letters):  # SERVICE: more than once "is not permitted"
        _damaged("names a permission (sp) twice")
    sas = Sas(
        kind, fields["sv"], fields.get("sp"), _time(fields, "st"), _time(fields, "se"),
        protocol=fields.get("spr", "https,http"), ip=fields.get("sip", ""), policy=fields.get("si", ""),
        services=fields.get("ss", ""), resource_types=fields.get("srt", ""), resource=fields.get("sr", ""),
        signer=fields.get("skoid", "").lower(), tenant=fields.get("sktid", "").lower(),
        key_starts_at=_time(fields, "skt"), key_expires_at=_time(fields, "ske"),
    )  # fmt: skip
    if sas.begins is not None and sas.ends is not None and sas.ends <= sas.begins:
        _damaged("ends before it begins")
    return sas


def _fields(query: str) -> dict[str, str]:
    if not query:
        _damaged("is empty")
    fields: dict[str, str] = {}
    for piece in query.split("&"):
        name, equals, value = piece.partition("=")
        if not equals:
            _damaged("has a part without a value")
        if name.startswith("amp;"):
            _damaged("was copied from a page of HTML, with &amp; for &")
        form = _FORMS.get(name)
        if form is None:
            continue
        if name in fields:
            _damaged(f"has the field {name} twice")
        fields[name] = unquote(value)
        if not form.fullmatch(fields[name]):
            _damaged(f"has a value in the field {name} that no SAS has")
    for name in ("sv", "sig"):  # required in every one
        if name not in fields:
            _damaged(f"has no field {name}")
    _check_signature(fields.pop("sig"))
    return fields


def _kind(fields: Mapping[str, str]) -> SasKind:
    """By the fields that only one kind has: ss and srt (ACCOUNT), skoid (DELEGATION), sr (both others)."""
    account, delegation = {"ss", "srt"} & fields.keys(), {"skoid", "sktid", "skt", "ske"} & fields.keys()
    if account and (delegation or "sr" in fields):
        _damaged("has the fields of an account SAS and of another one")
    if (account or delegation) and "si" in fields:  # ACCOUNT, DELEGATION: policies are not supported
        _damaged("names a stored access policy (si), which only a service SAS can")
    if account:
        _need(fields, "ss", "srt")
        return SasKind.ACCOUNT
    _need(fields, "sr")
    if delegation:
        _need(fields, "skoid", "sktid", "ske")
        return SasKind.DELEGATION
    return SasKind.SERVICE


def _need(fields: Mapping[str, str], *names: str) -> None:
    for name in names:
        if name not in fields:
            _damaged(f"has no field {name}")


def _check_signature(text: str) -> None:
    try:
        signature = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        signature = b""
    if len(signature) != _SIGNATURE_BYTES:
        _damaged("has a signature (sig) that is cut off or changed")


def _check_ip(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        _damaged("has an address in the field sip that is none")


def _time(fields: Mapping[str, str], name: str) -> int | None:
    text = fields.get(name)
    if text is None:
        return None
    match = _TIME.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        day, minutes, seconds, sign, zone_hours, zone_minutes = match.groups(default="")
        moment = datetime.fromisoformat(f"{day}T{minutes or '00:00'}:{seconds or '00'}").replace(tzinfo=UTC)
        ahead = timedelta(hours=int(zone_hours or 0), minutes=int(zone_minutes or 0))
        return int((moment + ahead if sign == "-" else moment - ahead).timestamp())
    except (ValueError, OverflowError):
        _damaged(f"has a time in the field {name} that is none")


def _damaged(what: str) -> NoReturn:
    """Without the error before, which may quote a value."""
    msg = f"the SAS {what}"
    raise UsageError(msg, hint="Copy it whole and in quotes, or make a new one.") from None
