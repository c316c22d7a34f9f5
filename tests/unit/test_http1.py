"""GETs of HTTP/1.1 from servers that answer by the book, in pieces, or with anything else."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from donjon.clouds import http1
from donjon.clouds.http1 import Answer, Broken, Connection, TooLong

#: What the server does with one connection, after it has read one request.
Script = Callable[[socket.socket], None]


@contextmanager
def server(*scripts: Script, context: ssl.SSLContext | None = None) -> Iterator[Connection]:
    """Gives a connection to a server that follows a script for each connection, and closes it then."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for script in scripts:
            try:
                opened, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(opened, server_side=True) if context else opened as client:
                    script(client)
            except OSError:
                continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    connection = Connection("127.0.0.1", listener.getsockname()[1])
    try:
        yield connection
    finally:
        connection.close()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def request(client: socket.socket) -> bytes:
    asked = b""
    while not asked.endswith(b"\r\n\r\n"):
        piece = client.recv(4096)
        if not piece:
            raise ConnectionError
        asked += piece
    return asked


def answering(*answers: bytes, step: int = 0) -> Script:
    """Answer requests one after the other; in pieces of ``step`` bytes, if told."""

    def script(client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for answer in answers:
            request(client)
            size = step or len(answer) or 1
            for at in range(0, len(answer), size):
                client.sendall(answer[at : at + size])

    return script


def get(connection: Connection, most_bytes: int = 100, into: memoryview | None = None) -> Answer:
    return connection.get("/a", {"host": "example"}, most_bytes, into)


OK = b"HTTP/1.1 200 OK\r\n"
TEN = OK + b'Content-Length: 10\r\nETag: "x"\r\n\r\n0123456789'


def test_request_and_answer() -> None:
    asked = []

    def script(client: socket.socket) -> None:
        asked.append(request(client))
        client.sendall(TEN)

    with server(script) as connection:
        answer = connection.get("/a?b=c", {"host": "example", "x-amz-date": "now"}, 10)
    assert asked == [b"GET /a?b=c HTTP/1.1\r\nhost: example\r\nx-amz-date: now\r\n\r\n"]
    assert answer == (200, {"content-length": "10", "etag": '"x"'}, b"0123456789")


CHUNKED = (
    OK + b"Transfer-Encoding: chunked\r\n\r\n4;name=value\r\n0123\r\n006\r\n456789\r\n0\r\nTrailer: 1\r\n\r\n"
)
EARLY = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + TEN


@pytest.mark.parametrize("answer", [TEN, CHUNKED, EARLY], ids=["length", "chunked", "early"])
@pytest.mark.parametrize("step", [1, 7, 0])
def test_one_connection_serves_many_requests(answer: bytes, step: int) -> None:
    with server(answering(*[answer] * 3, step=step)) as connection:
        for number in range(3):
            assert get(connection)[::2] == (200, b"0123456789")
            assert connection.is_open or number == 2
    assert not connection.is_open


def test_a_body_longer_than_the_buffer() -> None:
    data = bytes(range(256)) * 4096
    answer = OK + b"Content-Length: %d\r\n\r\n" % len(data) + data
    buffer = bytearray(len(data))
    with server(answering(answer, answer, answer)) as connection:
        assert get(connection, len(data)).body == data
        with memoryview(buffer) as view:
            assert get(connection, len(data), view).body is view
        assert buffer == data
        assert get(connection, len(data), memoryview(bytearray(5))).body == data  # of another length


@pytest.mark.parametrize("status", [404, 503])
def test_what_is_no_success_does_not_go_into_the_buffer(status: int) -> None:
    buffer = bytearray(10)
    with server(answering(TEN.replace(b"200 OK", b"%d No" % status))) as connection:
        answer = get(connection, 100, memoryview(buffer))
    assert answer[::2] == (status, b"0123456789")
    assert buffer == bytes(10)


def test_answers_without_a_body() -> None:
    none = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n"
    empty = OK + b"Content-Length: 0\r\n\r\n"
    with server(answering(none, empty, TEN)) as connection:
        assert get(connection)[::2] == (304, b"")
        assert get(connection)[::2] == (200, b"")
        assert get(connection).body == b"0123456789"


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK + b"\r\nall until the end", b"all until the end"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
        (OK + b"Connection: close\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
    ],
    ids=["no length", "HTTP/1.0", "close"],
)
def test_a_connection_that_serves_one_request(answer: bytes, body: bytes) -> None:
    with server(answering(answer), answering(answer)) as connection:
        for _ in range(2):
            assert get(connection).body == body
            assert not connection.is_open


def test_what_comes_behind_an_answer_is_not_taken_for_the_next() -> None:
    with server(answering(TEN + TEN.replace(b"0123456789", b"of another")), answering(TEN)) as connection:
        assert get(connection).body == b"0123456789"
        assert not connection.is_open
        assert get(connection).body == b"0123456789"


def test_names_of_headers_in_small_letters_and_values_joined() -> None:
    head = OK + b"X-Amz-Meta-A: 1\r\nx-amz-META-a:\t2 \r\nX-B: \xc3\xa4\r\nContent-Length: 0\r\n\r\n"
    with server(answering(head)) as connection:
        assert get(connection).headers == {"x-amz-meta-a": "1, 2", "x-b": "Ã¤", "content-length": "0"}


@pytest.mark.parametrize(
    "answer",
    [
        TEN.replace(b": 10", b": 101"),
        OK + b"Transfer-Encoding: chunked\r\n\r\n65\r\n" + bytes(101) + b"\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffff\r\n",
        OK + b"\r\n" + bytes(101),
    ],
    ids=["length", "chunks", "chunk", "no length"],
)
def test_more_than_expected_is_not_read(answer: bytes) -> None:
    with server(answering(answer)) as connection:
        with pytest.raises(TooLong):
            get(connection, 100)
        assert not connection.is_open


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 \xb2\xb2\xb2 OK\r\n\r\n",
        OK + b"no colon\r\n\r\n",
        OK + b"A: b\r\n folded: c\r\n\r\n",
        OK + b"A : b\r\n\r\n",
        OK + b": b\r\n\r\n",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: +1\r\n\r\nx",
        OK + b"Content-Length: 1_0\r\n\r\n0123456789",
        OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nx",
        OK + b"Content-Length: 3\r\nContent-Length: 10\r\n\r\n0123456789",
        OK + b"Transfer-Encoding: gzip\r\n\r\nx",
        OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n",
        OK + b"X: " + b"y" * 70_000 + b"\r\n\r\n",
        OK + b"X: y\r\n" * 3,
        TEN[:-1],
        CHUNKED[:-30],
        b"",
    ],
)
def test_what_is_no_answer(answer: bytes) -> None:
    with server(answering(answer)) as connection:
        with pytest.raises(Broken):
            get(connection)
        assert not connection.is_open


def certificate(folder: Path) -> Path:
    """For 127.0.0.1, signed by itself, with its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "of the tests")])
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / "certificate"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


def test_over_tls_and_only_with_who_it_should_be(tmp_path: Path) -> None:
    path = certificate(tmp_path)
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(path)
    data = bytes(range(256)) * 1024
    answer = OK + b"Content-Length: %d\r\n\r\n" % len(data) + data
    with server(answering(answer, answer), answering(answer), context=served) as plain:
        trusting = Connection("127.0.0.1", plain._port, ssl.create_default_context(cafile=path))
        assert get(trusting, len(data)).body == data
        buffer = bytearray(len(data))
        get(trusting, len(data), memoryview(buffer))
        assert buffer == data
        trusting.close()
        stranger = Connection("127.0.0.1", plain._port, ssl.create_default_context())
        with pytest.raises(ssl.SSLCertVerificationError):
            get(stranger)
        assert not stranger.is_open


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("sent", [b"", TEN[:20], TEN[:-1]], ids=["nothing", "half a head", "half a body"])
def test_a_server_that_falls_silent(
    secure: bool, sent: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http1, "_READ_TIMEOUT_S", 1)
    over = threading.Event()

    def script(client: socket.socket) -> None:
        request(client)
        client.sendall(sent)
        over.wait(30)

    served = trusted = None
    if secure:
        path = certificate(tmp_path)
        served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        served.load_cert_chain(path)
        trusted = ssl.create_default_context(cafile=path)
    with server(script, context=served) as plain:
        connection = Connection("127.0.0.1", plain._port, trusted)
        with pytest.raises(TimeoutError):
            get(connection)
        assert not connection.is_open
        over.set()


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    connection = Connection("127.0.0.1", port)
    with pytest.raises(ConnectionRefusedError):
        get(connection)
