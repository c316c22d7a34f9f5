"""Signed GETs of AWS without the layers of boto3, which cost a millisecond of processor time each.

For a million small objects, or the 8192 blocks of 4 GiB, that millisecond is most of what a backup takes.
What is signed, and how, is botocore's; the standard library sends it over connections that stay open, one a
thread. Where a proxy leads to the server, botocore's own session sends it instead.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import Any, Final, cast
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

from donjon.core.errors import DonjonError, StoreError, StoreUnavailable, UsageError

_CONNECT_TIMEOUT_S: Final = 20
_READ_TIMEOUT_S: Final = 60
_CONNECTIONS: Final = 32
_BROKEN: Final = (OSError, http.client.HTTPException)
#: Where the SDK looks for certificates of the user's own.
_BUNDLES: Final = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")

#: Status, headers with names in small letters, and body.
Answer = tuple[int, dict[str, str], bytes]


class TooLong(StoreError):
    """An answer has more bytes than it should."""


class SignedGets:
    """GETs of a service (``"s3"``, ``"ebs"``) below the address ``base``. Safe to share between threads.

    ``credentials`` are botocore's, or None for requests without a signature.
    """

    def __init__(self, base: str, service: str, region: str, credentials: Any) -> None:
        """Raises ``UsageError`` for certificates of the user's own that cannot be read."""
        parts = urlsplit(base)
        self._base = base.rstrip("/")
        self._service = service
        self._region = region
        self._credentials = credentials
        self._host = parts.netloc
        self._local = threading.local()
        self._open: list[http.client.HTTPConnection] = []
        self._mutex = threading.Lock()
        self._context = _context() if parts.scheme == "https" else None
        self._session = None
        proxies = getproxies()
        if parts.scheme in proxies and not proxy_bypass(parts.hostname or ""):
            from botocore.httpsession import URLLib3Session

            self._session = URLLib3Session(
                verify=_own_bundle() or True, proxies=proxies, max_pool_connections=_CONNECTIONS
            )

    def get(self, path: str, query: Mapping[str, str], headers: Mapping[str, str], most_bytes: int) -> Answer:
        """One request for ``path``, which starts with a slash and is quoted.

        Raises ``TooLong`` for an answer with more than ``most_bytes``, ``StoreUnavailable`` if no whole
        answer came, ``StoreError`` if the server is not who it should be, and what botocore raises without
        credentials.
        """
        url = self._base + path + (f"?{urlencode(query, quote_via=quote, safe='-_.~')}" if query else "")
        signed = self._signed(url, headers)
        try:
            if self._session is not None:
                return self._send_by_proxy(signed, most_bytes)
            return self._send(url, dict(signed.headers.items()), most_bytes)
        except DonjonError:
            raise
        except ssl.SSLError as error:
            raise StoreError(
                f"{self._host}: {error}",
                hint="Set AWS_CA_BUNDLE to the certificates of this server's authority.",
            ) from error
        except Exception as error:
            if not isinstance(error, _BROKEN) and not type(error).__module__.startswith(
                ("botocore", "urllib3")
            ):
                raise
            raise StoreUnavailable(
                f"{self._host}: no answer: {error or type(error).__name__}",
                hint="Look at the endpoint, the network and the state of the service, then try again.",
            ) from error

    def close(self) -> None:
        """Close the connections; the next request opens others."""
        with self._mutex:
            connections, self._open = self._open, []
        for connection in connections:
            connection.close()

    def _signed(self, url: str, headers: Mapping[str, str]) -> Any:
        from botocore.auth import S3SigV4Auth, SigV4Auth
        from botocore.awsrequest import AWSRequest

        request = AWSRequest("GET", url, headers={"host": self._host, **headers}, stream_output=True)
        request.context["payload_signing_enabled"] = False
        if self._credentials is not None:
            sign = S3SigV4Auth if self._service == "s3" else SigV4Auth
            sign(self._credentials.get_frozen_credentials(), self._service, self._region).add_auth(request)
        return request

    def _send_by_proxy(self, signed: Any, most_bytes: int) -> Answer:
        answer = cast("Any", self._session).send(signed.prepare())
        try:
            body: bytes = answer.raw.read(most_bytes + 1)
        finally:
            answer.raw.close()
        if len(body) > most_bytes:
            raise _too_long(urlsplit(signed.url).path, most_bytes)
        return answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, body

    def _send(self, url: str, headers: dict[str, str], most_bytes: int) -> Answer:
        connection = getattr(self._local, "connection", None)
        target = url.partition(self._host)[2]
        if connection is not None:
            try:
                return _exchange(connection, target, headers, most_bytes)
            except _BROKEN as error:
                connection.close()
                if isinstance(error, TimeoutError):
                    raise
                # The server may have closed it while it was idle, so this once it is tried again at once.
        connection = self._connect()
        try:
            return _exchange(connection, target, headers, most_bytes)
        except BaseException:
            connection.close()
            raise

    def _connect(self) -> http.client.HTTPConnection:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            if self._context is not None:
                connection = http.client.HTTPSConnection(
                    self._host, timeout=_CONNECT_TIMEOUT_S, context=self._context
                )
            else:
                connection = http.client.HTTPConnection(self._host, timeout=_CONNECT_TIMEOUT_S)
            self._local.connection = connection
        if connection.sock is None:
            connection.connect()
            cast("socket.socket", connection.sock).settimeout(_READ_TIMEOUT_S)
            with self._mutex:
                if connection not in self._open:
                    self._open.append(connection)
        return connection


def _exchange(
    connection: http.client.HTTPConnection, target: str, headers: dict[str, str], most_bytes: int
) -> Answer:
    if connection.sock is None:
        msg = "the connection was closed"
        raise ConnectionError(msg)
    connection.request("GET", target, headers=headers)
    answer = connection.getresponse()
    # An answer in chunks does not tell its length beforehand.
    body = b"" if (answer.length or 0) > most_bytes else answer.read(most_bytes + 1)
    if len(body) > most_bytes or (answer.length or 0) > most_bytes:
        connection.close()
        raise _too_long(target, most_bytes)
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body


def _too_long(target: str, most_bytes: int) -> TooLong:
    return TooLong(f"{target}: has more than {most_bytes} bytes, which is more than expected")


def _own_bundle() -> str | None:
    return next(filter(None, map(os.environ.get, _BUNDLES)), None)


def _context() -> ssl.SSLContext:
    from botocore.httpsession import get_cert_path

    bundle = _own_bundle() or get_cert_path(True)
    try:
        return ssl.create_default_context(cafile=bundle)
    except OSError as error:  # which what SSL says is as well
        msg = f"{bundle}: no certificates can be read there: {error}"
        raise UsageError(msg, hint=f"Look at {' and '.join(_BUNDLES)}.") from error
