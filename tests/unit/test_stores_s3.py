"""The S3 store without a server: addresses, errors, and what becomes of the answers of AWS."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore import exceptions as sdk
from botocore.parsers import ResponseParserError
from botocore.response import StreamingBody

from donjon.core.errors import (
    CredentialsRejected,
    DonjonError,
    IntegrityFailure,
    LocksUnsupported,
    ObjectExists,
    ObjectHidden,
    ObjectNotFound,
    PermissionMissing,
    Refused,
    StoreFull,
    StoreUnavailable,
    UsageError,
    VaultNotFound,
)
from donjon.core.operations import Operation
from donjon.stores.first_versions import FirstVersions
from donjon.stores.s3 import S3Address, S3Store
from donjon.stores.s3 import operations as ask
from donjon.stores.s3.body import Body
from donjon.stores.s3.client import S3Client
from donjon.stores.s3.errors import Asked, translated

NOW = 1_800_000_000
DATE = datetime.fromtimestamp(NOW, UTC).strftime("%a, %d %b %Y %H:%M:%S GMT")


# --- addresses -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("s3://bucket", S3Address("bucket")),
        ("s3://bucket/", S3Address("bucket")),
        ("s3://bucket/a/B_1", S3Address("bucket", "a/B_1/")),
        ("s3://bucket/v?endpoint=http://nas:9000", S3Address("bucket", "v/", "http://nas:9000")),
        (
            "s3://bucket/v?endpoint=https://s3.example.org/x&region=eu-1",
            S3Address("bucket", "v/", "https://s3.example.org/x", "eu-1"),
        ),
    ],
)
def test_an_address_and_its_text(url: str, address: S3Address) -> None:
    assert S3Address.parse(url) == address
    assert S3Address.parse(address.url) == address
    assert address.url == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3:///prefix",
        "s3://ab",
        "s3://Bucket/v",
        "s3://bucket/a//b",
        "s3://bucket/a b",
        "s3://bucket/" + "x" * 600,
        "s3://bucket/v#part",
        "s3://bucket?endpoint=nas:9000",
        "s3://bucket?endpoint=ftp://nas",
        "s3://bucket?endpoint=http://user:secret@nas",
        "s3://bucket?region=Eu_1",
        "s3://bucket?profile=x",
        "s3://key:secret@bucket/v",
    ],
)
def test_what_is_no_address_is_refused_without_telling_secrets(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        S3Address.parse(url)
    assert caught.value.hint
    assert "secret" not in str(caught.value)


def test_an_endpoint_from_outside_counts_only_where_the_address_has_none() -> None:
    assert S3Address.parse("s3://bucket").at("http://nas").endpoint == "http://nas"
    assert S3Address.parse("s3://bucket?endpoint=http://a").at("http://b").endpoint == "http://a"
    assert S3Address.parse("s3://bucket").at(None).endpoint is None


# --- errors ----------------------------------------------------------------------------------------


def _refusal(code: str, status: int, message: str = "", **headers: str) -> sdk.ClientError:
    response = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": {"date": DATE, **headers}},
    }
    return sdk.ClientError(response, "Operation")


@pytest.mark.parametrize(
    ("error", "operation", "expected"),
    [
        (_refusal("NoSuchKey", 404), ask.GET, ObjectNotFound),
        (_refusal("404", 404), ask.HEAD, ObjectNotFound),
        (_refusal("NoSuchBucket", 404), ask.PUT, VaultNotFound),
        (_refusal("404", 404, **{"x-amz-delete-marker": "true"}), ask.HEAD, ObjectHidden),
        (_refusal("405", 405, **{"x-amz-delete-marker": "true"}), ask.HEAD_VERSION, ObjectHidden),
        (_refusal("PreconditionFailed", 412), ask.PUT, ObjectExists),
        (_refusal("ConditionalRequestConflict", 409), ask.PUT, StoreUnavailable),
        (_refusal("SlowDown", 503), ask.PUT, StoreUnavailable),
        (_refusal("503", 503), ask.HEAD, StoreUnavailable),
        (_refusal("InternalError", 500), ask.PUT, StoreUnavailable),
        (_refusal("SomethingNew", 502), ask.GET, StoreUnavailable),
        (_refusal("RequestTimeout", 400), ask.PUT, StoreUnavailable),
        (_refusal("BadDigest", 400), ask.PUT, StoreUnavailable),
        (_refusal("AccessDenied", 403), ask.PUT_LOCKED, PermissionMissing),
        (_refusal("ExpiredToken", 400), ask.PUT, CredentialsRejected),
        (_refusal("InvalidAccessKeyId", 403), ask.PUT, CredentialsRejected),
        (_refusal("InvalidRequest", 400, "Bucket is missing Object Lock Configuration"), ask.PUT_LOCKED,
         LocksUnsupported),
        (_refusal("InvalidRequest", 400), ask.EXTEND, LocksUnsupported),
        (_refusal("ObjectLockConfigurationNotFoundError", 404, "Object Lock configuration does not exist"),
         ask.GET_LOCKS, LocksUnsupported),
        (_refusal("QuotaExceeded", 403), ask.PUT, StoreFull),
        (_refusal("PermanentRedirect", 301), ask.GET, UsageError),
        (_refusal("AuthorizationHeaderMalformed", 400), ask.GET, UsageError),
        (sdk.NoCredentialsError(), ask.GET, CredentialsRejected),
        (sdk.ProfileNotFound(profile="x"), ask.GET, UsageError),
        (sdk.EndpointConnectionError(endpoint_url="http://x"), ask.GET, StoreUnavailable),
        (sdk.ReadTimeoutError(endpoint_url="http://x"), ask.PUT, StoreUnavailable),
        (sdk.ConnectionClosedError(endpoint_url="http://x"), ask.PUT, StoreUnavailable),
        (sdk.IncompleteReadError(actual_bytes=1, expected_bytes=2), ask.GET, StoreUnavailable),
        (sdk.ResponseStreamingError(error="cut"), ask.GET, StoreUnavailable),
    ],
)  # fmt: skip
def test_every_refusal_has_its_error(
    error: Exception, operation: Operation, expected: type[DonjonError]
) -> None:
    ours = translated(error, Asked(operation, "packs/ab/cd", "s3://bucket/v"))
    assert type(ours) is expected
    assert ours.hint
    assert "packs/ab/cd" in ours.message or "s3://bucket/v" in ours.message
    assert ours.retryable == (expected is StoreUnavailable)


def test_a_missing_permission_is_named() -> None:
    asked = Asked(ask.EXTEND, "packs/ab/cd", "s3://bucket/v")
    assert "s3:PutObjectRetention" in translated(_refusal("AccessDenied", 403), asked).message
    said = "User: arn:aws:iam::1:user/w is not authorized to perform: s3:PutObjectLegalHold on resource: x"
    assert "s3:PutObjectLegalHold" in translated(_refusal("AccessDenied", 403, said), asked).message


def test_a_legal_hold_is_no_missing_permission() -> None:
    said = "Access Denied because object protected by object lock."
    head = {"ContentLength": 1, "LastModified": datetime.fromtimestamp(NOW, UTC), "VersionId": "7"}
    aws = Aws(head_object=head, delete_object=_refusal("AccessDenied", 403, said))
    with pytest.raises(Refused, match="legal hold"):
        _store(aws).delete_expired("a/b")


def test_every_method_of_the_port_declares_its_permissions() -> None:
    for method in ("put", "put locked", "get", "get version", "head", "list", "extend", "delete_expired"):
        for operation in ask.PERMISSIONS[method]:
            assert operation.permissions
            assert all(name.startswith("s3:") for name in operation.permissions)


# --- answers ---------------------------------------------------------------------------------------


class Aws:
    """Answers requests as it is told: by method, with a value, an error, or a function of the parameters."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, method: str) -> Callable[..., dict[str, Any]]:
        def request(**parameters: Any) -> dict[str, Any]:
            self.asked.append((method, parameters))
            answer = self.answers[method]
            answer = answer(parameters) if callable(answer) else answer
            if isinstance(answer, Exception):
                raise answer
            return {"ResponseMetadata": {"HTTPHeaders": {"date": DATE}}, **answer}

        return request

    def close(self) -> None:
        pass


def _store(aws: Aws, clock: int = NOW) -> S3Store:
    address = S3Address("bucket", "v/")
    return S3Store(address, S3Client(address, aws), lambda: clock)


def test_a_put_creates_locks_and_sends_its_checksum() -> None:
    aws = Aws(
        head_bucket={}, put_object=lambda given: {"VersionId": "1", "ChecksumSHA256": given["ChecksumSHA256"]}
    )
    info = _store(aws).put("a/b", b"hello", retain_until=NOW + 100)
    parameters = aws.asked[-1][1]
    assert parameters["IfNoneMatch"] == "*"
    assert parameters["Key"] == "v/a/b"
    assert parameters["ObjectLockMode"] == "COMPLIANCE"
    assert parameters["ObjectLockRetainUntilDate"] == datetime.fromtimestamp(NOW + 100, UTC)
    assert parameters["ChecksumSHA256"] == "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="
    assert (info.version, info.retain_until) == ("1", NOW + 100)


def test_another_checksum_in_the_answer_is_an_integrity_failure() -> None:
    with pytest.raises(IntegrityFailure, match="a/b"):
        _store(Aws(head_bucket={}, put_object={"ChecksumSHA256": "AAAA"})).put("a/b", b"hello")


@pytest.mark.parametrize("shift", [-3600, -301, 301, 3600])
def test_a_host_with_a_wrong_clock_sends_no_data(shift: int) -> None:
    aws = Aws(head_bucket={}, put_object={})
    with pytest.raises(Refused, match="clock of this host"):
        _store(aws, NOW + shift).put("a/b", b"hello")
    assert [method for method, _ in aws.asked] == ["head_bucket"]


def test_a_lock_in_the_past_sends_no_data() -> None:
    aws = Aws(head_bucket={}, put_object={})
    with pytest.raises(Refused, match="past by the provider's clock"):
        _store(aws).put("a/b", b"hello", retain_until=NOW)
    assert [method for method, _ in aws.asked] == ["head_bucket"]


def test_the_time_is_told_by_a_refusal_too() -> None:
    assert _store(Aws(head_bucket=_refusal("403", 403)), clock=0).now() == NOW


@pytest.mark.parametrize(
    ("may_list", "expected"), [(True, PermissionMissing), (False, ObjectNotFound)], ids=["reader", "writer"]
)
def test_a_refused_read_means_missing_where_s3_does_not_tell(
    may_list: bool, expected: type[DonjonError]
) -> None:
    aws = Aws(
        get_object=_refusal("AccessDenied", 403),
        head_object=_refusal("403", 403),
        head_bucket={} if may_list else _refusal("403", 403),
    )
    store = _store(aws)
    for call in (lambda: store.get("a/b"), lambda: store.head("a/b")):
        with pytest.raises(expected):
            call()


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_keys_that_are_not_accepted_never_mean_that_an_object_is_missing(code: str) -> None:
    aws = Aws(get_object=_refusal(code, 403), list_object_versions=_refusal(code, 403), head_bucket={})
    store = FirstVersions(_store(aws))
    for _ in range(2):  # and it is no reason to stop listing for good
        with pytest.raises(CredentialsRejected):
            store.get("a/b")
    assert [method for method, _ in aws.asked] == ["list_object_versions"] * 2
    with pytest.raises(CredentialsRejected):
        _store(Aws(get_object=_refusal(code, 403), head_bucket=_refusal("403", 403))).get("a/b")


@pytest.mark.parametrize(
    ("size_bytes", "answer"),
    [
        (123, {"ContentRange": "bytes 0-0/123", "Body": io.BytesIO(b"x")}),
        (0, _refusal("InvalidRange", 416)),
    ],
)
def test_a_size_that_a_proxy_left_out_of_a_head_is_asked_for(size_bytes: int, answer: Any) -> None:
    head = {"LastModified": datetime.fromtimestamp(NOW, UTC)}
    aws = Aws(head_object=head, get_object=answer)
    assert _store(aws).head("a/b").size_bytes == size_bytes


@pytest.mark.parametrize(
    "answers",
    [
        {"head_object": {"ContentLength": 1}},
        {
            "head_object": {"LastModified": datetime.fromtimestamp(NOW, UTC)},
            "get_object": {"ContentRange": "bytes 0-0/*", "Body": io.BytesIO(b"x")},
        },
        {"head_object": ResponseParserError("invalid XML received")},
    ],
)
def test_an_answer_that_makes_no_sense_is_no_traceback(answers: dict[str, Any]) -> None:
    with pytest.raises(StoreUnavailable):
        _store(Aws(**answers)).head("a/b")


def test_a_body_that_breaks_off_can_be_asked_for_again() -> None:
    aws = Aws(get_object={"Body": StreamingBody(io.BytesIO(b"half"), 8)})
    with pytest.raises(StoreUnavailable):
        _store(aws).get("a/b")


def test_what_is_deleted_is_a_version_and_never_leaves_a_marker() -> None:
    modified = datetime.fromtimestamp(NOW - 100, UTC)
    head = {"ContentLength": 1, "LastModified": modified, "VersionId": "7"}
    aws = Aws(head_object=head, delete_object={})
    _store(aws).delete_expired("a/b")
    assert aws.asked[-1] == ("delete_object", {"Bucket": "bucket", "Key": "v/a/b", "VersionId": "7"})


def test_a_body_gives_views_of_the_callers_memory() -> None:
    data = bytearray(3_000_000)
    body = Body(memoryview(data)[10:])
    pieces = list(iter(body.read, b""))
    assert len(body) == sum(len(piece) for piece in pieces) == 2_999_990
    assert all(isinstance(piece, memoryview) and piece.obj is data for piece in pieces)
    body.seek(0)
    assert body.tell() == 0
    assert bytes(body.read()) == bytes(1 << 20)
