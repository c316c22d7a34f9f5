"""Signed requests past the SDK: straight to a server, and through a proxy that leads to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from donjon.clouds import aws
from donjon.clouds.signed_gets import SignedGets, TooLong
from donjon.core.errors import StoreUnavailable, UsageError
from donjon.testing.aws.people import User
from donjon.testing.clock import ManualClock
from donjon.testing.front import Answer, Front, HangUp, Request, Upstream, serving

USER = User("reader", "AKIAIOSFODNN7EXAMPLE", "made-up-secret-of-the-tests")


class Echo(Front):
    """Answers with ten bytes. A request that comes by proxy names its host in its first line."""

    def handle(self, request: Request) -> Answer:
        return Answer(200, b"0123456789", {"x-amz-Checksum": request.target})


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Echo, str]]:
    for name, value in USER.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    front = Echo(Upstream(0), ManualClock())
    with serving(front) as endpoint:
        yield front, endpoint


def gets(base: str, service: str = "ebs") -> SignedGets:
    return SignedGets(base, service, "eu-west-1", aws.credentials("the test"))


@pytest.mark.parametrize("service", ["ebs", "s3"])
def test_straight(served: tuple[Echo, str], service: str) -> None:
    front, endpoint = served
    asking = gets(endpoint, service)
    for _ in range(2):
        status, told, body = asking.get("/a%2Fb", {"token": "x=/"}, {}, 10)
        assert (status, told["x-amz-checksum"], body) == (200, "/a%2Fb?token=x%3D%2F", b"0123456789")
    assert f"/eu-west-1/{service}/aws4_request" in front.requests[0].headers["authorization"]
    with pytest.raises(TooLong, match="more than 9 bytes"):
        asking.get("/a", {}, {}, 9)
    asking.close()
    assert asking.get("/a", {}, {}, 10)[2] == b"0123456789"
    asking.close()


def test_a_connection_that_ended_while_idle_is_opened_anew_once(served: tuple[Echo, str]) -> None:
    front, endpoint = served
    asking = gets(endpoint)
    asking.get("/a", {}, {}, 10)
    ends = [True]

    def end(request: Request, handle: Callable[[Request], Answer]) -> Answer:
        if ends and ends.pop():
            raise HangUp
        return handle(request)

    front.trouble = end
    assert asking.get("/b", {}, {}, 10)[2] == b"0123456789"
    assert [request.raw_path for request in front.requests] == ["/a", "/b", "/b"]
    ends += [True, True]
    with pytest.raises(StoreUnavailable, match="no answer"):
        asking.get("/c", {}, {}, 10)
    assert [request.raw_path for request in front.requests][3:] == ["/c", "/c"]
    asking.close()


@pytest.mark.parametrize("by_proxy", [False, True])
def test_into_a_buffer(served: tuple[Echo, str], by_proxy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    _, endpoint = served
    if by_proxy:
        monkeypatch.setenv("http_proxy", endpoint)
    asking = gets("http://ebs.invalid" if by_proxy else endpoint)
    buffer, shorter = bytearray(10), bytearray(9)
    assert asking.get("/a", {}, {}, 10, memoryview(buffer))[2] == b""
    assert buffer == b"0123456789"
    assert asking.get("/a", {}, {}, 10, memoryview(shorter))[2] == b"0123456789"
    assert shorter == bytes(9)
    asking.close()


def test_by_proxy(served: tuple[Echo, str], monkeypatch: pytest.MonkeyPatch) -> None:
    front, endpoint = served
    monkeypatch.setenv("http_proxy", endpoint)
    asking = gets("http://ebs.invalid")
    for _ in range(2):
        status, told, body = asking.get("/a%2Fb", {"token": "x"}, {}, 10)
        assert (status, body) == (200, b"0123456789")
        assert told["x-amz-checksum"] == "http://ebs.invalid/a%2Fb?token=x"
    assert front.requests[0].headers["host"] == "ebs.invalid"
    with pytest.raises(TooLong, match="/a: has more than 9 bytes"):
        asking.get("/a", {}, {}, 9)


def test_a_proxy_that_is_away_is_no_answer(served: tuple[Echo, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(StoreUnavailable, match=r"ebs\.invalid: no answer"):
        gets("http://ebs.invalid").get("/a", {}, {}, 10)


@pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"])
def test_certificates_that_cannot_be_read(
    served: tuple[Echo, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    (tmp_path / "bundle").write_text("no certificates")
    for path in (tmp_path / "bundle", tmp_path / "none"):
        monkeypatch.setenv(name, str(path))
        with pytest.raises(UsageError, match="no certificates can be read"):
            gets("https://ebs.invalid")
