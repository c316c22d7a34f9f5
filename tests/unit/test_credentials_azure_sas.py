"""Account keys and SAS of Azure Storage; the SAS are made by Azure's own SDK."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import pytest
from azure.storage.blob import UserDelegationKey, generate_account_sas, generate_container_sas
from hypothesis import given
from hypothesis import strategies as st

from donjon.app.credentials import CredentialRequest, _sas_letters, rotate_credential
from donjon.core.clock import SECONDS_PER_DAY as DAY
from donjon.core.clock import iso
from donjon.core.errors import KeyNotAvailable, UsageError
from donjon.credentials.azure_findings import find_azure, refusal
from donjon.credentials.azure_sas import SasKind, parse_sas
from donjon.credentials.azure_storage import VARIABLE, Stored, find_stored, read
from donjon.credentials.findings import Finding, Limits, Severity

NOW = 1_800_000_000
KEY = base64.b64encode(b"made up for tests only, and of no account".ljust(64, b"!")).decode()
ADDRESS = "https://acme.blob.core.windows.net"
OID, TID = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"
WRITER = frozenset("cri")


def _at(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _delegated(
    permissions: str = "rci", begins: int = NOW - DAY, ends: int = NOW + 5 * DAY, **more: Any
) -> str:
    key: Any = UserDelegationKey()  # type: ignore[no-untyped-call]
    key.signed_oid, key.signed_tid, key.signed_service, key.signed_version = OID, TID, "b", "2025-01-05"
    key.signed_start, key.signed_expiry = iso(begins), iso(ends)
    key.value = KEY
    fields: dict[str, Any] = {
        "protocol": "https",
        "expiry": _at(ends),
        "start": _at(begins),
        "permission": permissions,
    }
    return str(generate_container_sas("acme", "vault", user_delegation_key=key, **(fields | more)))


def _service(**more: Any) -> str:
    fields: dict[str, Any] = {
        "protocol": "https",
        "permission": "rci",
        "expiry": _at(NOW + 20 * DAY),
        "start": _at(NOW),
    }
    return str(generate_container_sas("acme", "vault", account_key=KEY, **(fields | more)))


def _account(permissions: str = "rci", **more: Any) -> str:
    fields: dict[str, Any] = {"protocol": "https", "expiry": _at(NOW + 20 * DAY), "start": _at(NOW)}
    return str(generate_account_sas("acme", KEY, "co", permissions, **(fields | more)))


def _signature(sas: str) -> str:
    return parse_qs(sas)["sig"][0]


def _find(text: str, needed: frozenset[str] = WRITER, limits: Limits | None = None) -> list[Finding]:
    return find_azure(read(text, "here"), "writer", needed, limits or Limits(), NOW)


def _checks(text: str, **more: Any) -> list[str]:
    """All that is found but the advice that each gets."""
    return [one.check for one in _find(text, **more) if one.check != "stored-secret"]


@pytest.mark.parametrize(
    ("sas", "kind", "owner"),
    [
        (_delegated(), "azure-user-delegation-sas", f"the identity {OID}"),
        (_service(), "azure-service-sas", "acme"),
        (_account(), "azure-account-sas", "acme"),
    ],
)
@pytest.mark.parametrize("form", ["SharedAccessSignature={};BlobEndpoint=" + ADDRESS, ADDRESS + "/vault?{}"])
def test_every_kind_is_told_wherever_it_stands(sas: str, kind: str, owner: str, form: str) -> None:
    (found,) = read(form.format(sas), "here")
    one = found.credential
    assert (one.kind, one.owner, one.in_use, one.stored_in) == (kind, owner, True, "here")
    assert one.id == f"acme/{kind.removeprefix('azure-')}"
    assert dict(one.details)["permissions"] == "rci"
    assert dict(one.details)["protocol"] == "https"
    assert one.created_at is not None
    assert one.expires_at is not None
    assert _signature(sas) not in repr(found)
    assert quote(_signature(sas), safe="") not in repr(found)


def test_what_a_sas_says_is_read_with_its_meaning() -> None:
    sas = parse_sas(_delegated(ip="10.1.2.3-10.1.2.9"))
    assert (sas.kind, sas.signer, sas.tenant) == (SasKind.DELEGATION, OID, TID)
    assert (sas.begins, sas.ends, sas.ip, sas.resource) == (
        NOW - DAY,
        NOW + 5 * DAY,
        "10.1.2.3-10.1.2.9",
        "c",
    )
    account = parse_sas("?" + _account(protocol=None))
    assert (account.services, account.resource_types, account.protocol) == ("b", "co", "https,http")
    assert parse_sas(_service(policy_id="backup")).policy == "backup"


def test_a_delegation_ends_with_its_key() -> None:
    assert parse_sas(_delegated(expiry=_at(NOW + 300 * DAY))).ends == NOW + 5 * DAY
    assert parse_sas(_delegated(start=_at(NOW - 300 * DAY))).begins == NOW - DAY


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2027-01-15", 1_799_971_200),
        ("2027-01-15T08:00Z", NOW),
        ("2027-01-15T08:00:00Z", NOW),
        ("2027-01-15T08:00:00.1234567Z", NOW),
        ("2027-01-15T08:00:00", NOW),
        ("2027-01-15T10:30:00+02:30", NOW),
        ("2027-01-15T05:30:00-02:30", NOW),
    ],
)
def test_all_forms_of_time_are_read(text: str, seconds: int) -> None:
    sas = _with(_service(start=None), "se", text)
    assert parse_sas(sas).expires_at == seconds


def _with(sas: str, name: str, value: str) -> str:
    """The same with another value, which the signature does not cover."""
    pieces = [piece for piece in sas.split("&") if not piece.startswith(f"{name}=")]
    return "&".join([*pieces, f"{name}={quote(value, safe='')}"])


def _without(sas: str, *names: str) -> str:
    return "&".join(piece for piece in sas.split("&") if piece.partition("=")[0] not in names)


def test_a_delegation_that_is_as_it_should_be_has_one_advice() -> None:
    (found,) = _find(_delegated())
    assert (found.check, found.severity) == ("stored-secret", Severity.ADVICE)
    assert "managed identity" in found.fix


@pytest.mark.parametrize(
    ("sas", "checks"),
    [
        (_delegated(begins=NOW - 6 * DAY, ends=NOW), ["expired"]),
        (_delegated(begins=NOW - 6 * DAY, ends=NOW + DAY), ["expires-soon"]),
        (_delegated(begins=NOW + DAY), ["not-yet-valid"]),
        (_delegated(protocol=None), ["plain-http"]),
        (_delegated(protocol="https,http"), ["plain-http"]),
        (_delegated("rdci"), ["over-privileged"]),
        (_delegated("rcwi"), ["over-privileged"]),
        (_delegated("rcxi"), ["over-privileged"]),
        (_delegated("rcyi"), ["over-privileged"]),
        (_delegated("rcli"), ["over-privileged"]),
        (_delegated("rcdli"), ["over-privileged", "over-privileged"]),
        (_delegated("ci"), []),
        (_service(), ["signed-with-account-key"]),
        (_service(expiry=_at(NOW + 90 * DAY)), ["signed-with-account-key"]),
        (_service(expiry=_at(NOW + 91 * DAY)), ["long-lived", "signed-with-account-key"]),
        (_service(start=None, expiry=_at(NOW + 91 * DAY)), ["long-lived", "signed-with-account-key"]),
        (_service(policy_id="backup"), ["signed-with-account-key"]),
        (_service(policy_id="backup", permission=None), ["limits-unseen", "signed-with-account-key"]),
        (_service(policy_id="backup", expiry=None), ["limits-unseen", "signed-with-account-key"]),
        (_without(_service(), "se"), ["no-expiry", "signed-with-account-key"]),
        (_account(), ["over-privileged", "signed-with-account-key"]),
    ],
)  # fmt: skip
def test_each_fault_of_a_sas_is_found(sas: str, checks: list[str]) -> None:
    assert _checks(sas) == checks


def test_what_destroys_is_critical_and_named() -> None:
    worst, next_, _ = _find(_delegated("rcdxyli"))
    assert (worst.severity, next_.severity) == (Severity.CRITICAL, Severity.WARNING)
    assert "delete objects (d), delete versions (x), delete versions for good" in worst.text
    assert "list the container (l), which a writer need not" in next_.text
    assert "sp=rci" in worst.fix
    assert "do what Donjon does not know (q)" in _find(_with(_delegated(), "sp", "rciq"))[0].text


def test_what_revokes_one_that_the_account_key_signed_is_told() -> None:
    assert "only renewing that key" in _find(_service())[0].text
    assert "only deleting the policy 'backup' or renewing" in _find(_service(policy_id="backup"))[0].text


def test_a_sas_that_makes_and_deletes_containers_is_told() -> None:
    assert "may make and delete containers" in _find(_account("rci"))[0].text
    objects = generate_account_sas("acme", KEY, "o", "rci", _at(NOW + DAY), protocol="https")
    assert "containers of the account" in _find(objects)[0].text
    assert "delete" not in _find(objects)[0].text


@pytest.mark.parametrize(
    ("role", "letters"),
    [("writer", "cir"), ("reader", "lr"), ("custodian", "cilr"), ("reaper", "dlrx"), ("auditor", "cilr")],
)
def test_what_a_role_needs_follows_from_its_work(role: str, letters: str) -> None:
    assert "".join(sorted(_sas_letters(role))) == letters


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(UsageError, match="no role") as refused:
        _sas_letters("king")
    assert "custodian" in refused.value.hint


def test_an_account_key_is_critical_and_comes_before_a_sas() -> None:
    text = (
        f"DefaultEndpointsProtocol=https;AccountName=acme;AccountKey={KEY};SharedAccessSignature={_service()}"
    )
    key, sas = read(text + ";EndpointSuffix=core.windows.net;", "here")
    assert (key.credential.id, key.credential.kind) == ("acme/key", "azure-account-key")
    assert (key.credential.in_use, sas.credential.in_use) == (True, False)
    assert KEY not in repr([key, sas])
    found = _find(text)
    assert (found[0].check, found[0].severity) == ("account-key", Severity.CRITICAL)
    assert "allowSharedKeyAccess=false" in found[0].fix
    assert KEY not in str(found)


def test_a_sas_in_the_address_of_the_service_counts() -> None:
    (found,) = read(f"BlobEndpoint={ADDRESS}/?{_delegated()}", "here")
    assert found.credential.id == "acme/user-delegation-sas"


@pytest.mark.parametrize(
    ("text", "in_clear"),
    [
        (f"BlobEndpoint=http://acme.blob.core.windows.net;SharedAccessSignature={_delegated()}", True),
        (f"DefaultEndpointsProtocol=http;AccountName=acme;AccountKey={KEY}", True),
        (f"http://acme.blob.core.windows.net/vault?{_delegated()}", True),
        (f"BlobEndpoint=http://127.0.0.1:10000/acme;AccountName=acme;AccountKey={KEY}", False),
        (f"BlobEndpoint={ADDRESS};SharedAccessSignature={_delegated()}", False),
    ],
)
def test_what_is_sent_in_clear_is_told(text: str, in_clear: bool) -> None:
    assert ("sent-in-clear" in _checks(text)) == in_clear


_GOOD = _delegated()


@pytest.mark.parametrize(
    ("sas", "what"),
    [
        ("", "is empty"),
        ("?", "is empty"),
        (_GOOD + "&", "part without a value"),
        (_GOOD.replace("&", "&amp;"), "&amp; for &"),
        (_GOOD + "&sp=r", "field sp twice"),
        (_GOOD + "&sig=" + _signature(_GOOD), "field sig twice"),
        (_without(_GOOD, "sig"), "no field sig"),
        (_without(_GOOD, "sv"), "no field sv"),
        (_without(_GOOD, "ske"), "no field ske"),
        (_without(_GOOD, "skoid"), "no field skoid"),
        (_without(_GOOD, "sr"), "no field sr"),
        (_without(_GOOD, "sp"), "no permissions"),
        (_without(_account(), "srt"), "no field srt"),
        (_with(_GOOD, "sig", _signature(_GOOD)[:-6]), "cut off"),
        (_with(_GOOD, "sig", base64.b64encode(b"short").decode()), "cut off"),
        (_with(_GOOD, "sig", "not base64, and long enough for thirty-two"), "cut off"),
        (_with(_GOOD, "ss", "b"), "an account SAS and of another"),
        (_with(_GOOD, "si", "backup"), "only a service SAS"),
        (_with(_account(), "si", "backup"), "only a service SAS"),
        (_with(_GOOD, "sp", "rcr"), "permission .* twice"),
        (_with(_GOOD, "sp", "RC"), "field sp that no SAS has"),
        (_with(_GOOD, "spr", "http"), "field spr"),
        (_with(_GOOD, "sip", "10.0.0.256"), "sip that is none"),
        (_with(_GOOD, "skoid", "me"), "field skoid"),
        (_with(_service(), "si", "a\x1b[2Jb"), "cannot be shown"),
        (_with(_GOOD, "se", "tomorrow"), "time in the field se"),
        (_with(_GOOD, "se", "2027-02-30"), "time in the field se"),
        (_with(_GOOD, "se", "2027-01-15T25:00Z"), "time in the field se"),
        (_with(_GOOD, "se", "15.01.2027"), "time in the field se"),
        (_with(_GOOD, "se", "2020-01-01"), "ends before it begins"),
        (_with(_GOOD, "se", iso(NOW - DAY)), "ends before it begins"),
        (_with(_GOOD, "se", "0001-01-01T00:00:00+23:59"), "time in the field se|before it begins"),
    ],
)
def test_a_damaged_sas_is_refused_without_being_quoted(sas: str, what: str) -> None:
    with pytest.raises(UsageError, match=what) as refused:
        parse_sas(sas)
    assert refused.value.hint
    assert _signature(_GOOD) not in str(refused.value)


@given(st.data())
def test_no_change_of_a_sas_makes_an_error_or_a_fact_that_shows_the_signature(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(_GOOD)))
    until = data.draw(st.integers(at, min(len(_GOOD), at + 3)))
    sas = _GOOD[:at] + data.draw(st.text("&=?%;amp sig+\n", max_size=3)) + _GOOD[until:]
    whole = (quote(_signature(_GOOD), safe="")[:20], _signature(_GOOD)[:20])
    try:
        shown = str(parse_sas(sas))
    except UsageError as error:
        shown = f"{error} {error.hint} {error.__cause__} {error.__suppress_context__ or error.__context__}"
    assert not any(part in shown for part in whole)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "is empty"),
        ("AccountName=acme", "neither an account key nor a SAS"),
        ("AccountName=acme;AccountKey", "belongs in no connection string"),
        (f"AccountName=acme;AccountKey={KEY};Hello=1", "belongs in no connection string"),
        (f"AccountName=acme;AccountKey={KEY};accountkey={KEY}", "accountkey twice"),
        (f"AccountName=ACME/x;AccountKey={KEY}", "account name that is none"),
        ("UseDevelopmentStorage=true", "emulator"),
        ("SharedAccessSignature=sv=2025-01-05&sr=c", "here: the SAS has no field sig"),
    ],
)
def test_a_damaged_connection_string_is_refused(text: str, what: str) -> None:
    with pytest.raises(UsageError, match=what) as refused:
        read(text, "here")
    assert KEY not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        f"# mine\nOTHER=x\n{VARIABLE}=\"BlobEndpoint={ADDRESS};SharedAccessSignature={_GOOD}\"\n",
        f"export {VARIABLE}='BlobEndpoint={ADDRESS};SharedAccessSignature={_GOOD}'",
        f"BlobEndpoint={ADDRESS};SharedAccessSignature={_GOOD}\n",
        f"{ADDRESS}/vault?{_GOOD}\n",
    ],
)  # fmt: skip
def test_files_of_both_forms_are_read(tmp_path: Path, text: str) -> None:
    file = tmp_path / "azure.env"
    file.write_text(text)
    (found,) = find_stored(file, {})
    assert (found.credential.id, found.credential.stored_in) == ("acme/user-delegation-sas", str(file))


def test_the_variable_of_the_store_is_looked_at_without_a_file() -> None:
    (found,) = find_stored(None, {VARIABLE: f"AccountName=acme;AccountKey={KEY}"})
    assert found.credential.stored_in == f"the variable {VARIABLE}"
    with pytest.raises(KeyNotAvailable, match="identity"):
        find_stored(None, {})


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("A=1\nB=2\n", "has no line"),
        ("\n", "has no line"),
        (f"{VARIABLE}=a\n{VARIABLE}=b\n", "more than one line"),
        (f"{VARIABLE}=\n", "is empty"),
    ],
)
def test_files_without_it_are_refused(tmp_path: Path, text: str, what: str) -> None:
    file = tmp_path / "azure.env"
    file.write_text(text)
    with pytest.raises(UsageError, match=what):
        find_stored(file, {})
    with pytest.raises(KeyNotAvailable, match="cannot be read"):
        find_stored(tmp_path / "none", {})


@pytest.mark.parametrize(
    ("text", "todo"),
    [
        (_delegated(), "revoke-delegation-keys"),
        (_service(policy_id="backup"), "policy delete --name 'backup'"),
        (_service(), "keys renew"),
        (_account(), "keys renew"),
        (f"AccountName=acme;AccountKey={KEY}", "keys renew"),
    ],
)
def test_a_rotation_is_refused_with_what_to_do(tmp_path: Path, text: str, todo: str) -> None:
    found: Stored = read(text, "here")[0]
    assert todo in refusal(found)[1]
    file = tmp_path / "sas"
    file.write_text(text)
    with pytest.raises(UsageError) as refused:
        rotate_credential(CredentialRequest("azure-storage", file))
    assert refused.value.hint == refusal(found)[1]
    assert file.read_text() == text
