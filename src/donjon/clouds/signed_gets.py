"""Signed GETs of AWS without the layers of boto3, which cost a millisecond of processor time each.

For a million small objects, or the 8192 blocks of 4 GiB, that millisecond is most of what a backup takes; see
docs/adr/0032-straight-gets.md. Connections stay open, one a thread. Where a proxy leads to the server,
botocore's own session sends what was signed.
"""

from __future__ import annotations

import os
import ssl
import threading
from collections.abc import Mapping
from typing import Any, Final, cast
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

from donjon.clouds import http1
from donjon.clouds.sigv4 import Signer
from donjon.core.errors import DonjonError, StoreError, StoreUnavailable, UsageError

_CONNECTIONS: Final = 32
#: Where the SDK looks for certificates of the user's own.
_BUNDLES: Final = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
_PORTS: Final = {"http": 80, "https": 443}

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
        self._prefix = parts.path.rstrip("/")
        self._credentials = credentials
        self._host = parts.netloc
        self._signer = Signer(service, region, parts.netloc)
        self._server = (parts.hostname or "", parts.port or _PORTS[parts.scheme])
        self._local = threading.local()
        self._opened: list[http1.Connection] = []
        self._mutex = threading.Lock()
        self._context = _context() if parts.scheme == "https" else None
        self._session = None
        proxies = getproxies()
        if parts.scheme in proxies and not proxy_bypass(parts.hostname or ""):
            from botocore.httpsession import URLLib3Session

            self._session = URLLib3Session(
                verify=_own_bundle() or True, proxies=proxies, max_pool_connections=_CONNECTIONS
            )

    def get(
        self,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        most_bytes: int,
        into: memoryview | None = None,
    ) -> Answer:
        """One request for ``path``, which starts with a slash and is quoted.

        The body of a 200 that is as long as ``into`` goes there, and none is returned. Raises ``TooLong`` for
        an answer with more than ``most_bytes``, ``StoreUnavailable`` if no whole answer came, ``StoreError``
        if the server is not who it should be, and what botocore raises without credentials.
        """
        path = self._prefix + path
        asked = _encode(query)
        signed = {"host": self._host, **headers}
        if self._credentials is not None:
            signed = self._signer.headers(path, asked, headers, self._credentials.get_frozen_credentials())
        target = f"{path}?{asked}" if asked else path
        try:
            if self._session is not None:
                status, told, body = self._send_by_proxy(target, signed, most_bytes)
            else:
                status, told, body = self._send(target, signed, most_bytes, into)
        except DonjonError:
            raise
        except http1.TooLong as error:
            msg = f"{path}: has more than {most_bytes} bytes, which is more than expected"
            raise TooLong(msg) from error
        except ssl.SSLError as error:
            raise StoreError(
                f"{self._host}: {error}",
                hint="Set AWS_CA_BUNDLE to the certificates of this server's authority.",
            ) from error
        except Exception as error:
            if not isinstance(error, OSError) and not type(error).__module__.startswith(
                ("botocore", "urllib3")
            ):
                raise
            raise StoreUnavailable(
                f"{self._host}: no answer: {error or type(error).__name__}",
                hint="Look at the endpoint, the network and the state of the service, then try again.",
            ) from error
        if body is into:
            return status, told, b""
        if into is not None and len(body) == len(into):
            into[:] = body
            body = b""
        return status, told, bytes(body)

    def close(self) -> None:
        """Close the connections; the next request opens others."""
        with self._mutex:
            for connection in self._opened:
                connection.close()

    def _send_by_proxy(self, target: str, headers: dict[str, str], most_bytes: int) -> http1.Answer:
        from botocore.awsrequest import AWSRequest

        url = self._base.removesuffix(self._prefix) + target
        request = AWSRequest("GET", url, headers=headers, stream_output=True)
        answer = cast("Any", self._session).send(request.prepare())
        try:
            body: bytes = answer.raw.read(most_bytes + 1)
        finally:
            answer.raw.close()
        if len(body) > most_bytes:
            raise http1.TooLong
        told = {name.lower(): value for name, value in answer.headers.items()}
        return http1.Answer(answer.status_code, told, body)

    def _send(
        self, target: str, headers: dict[str, str], most_bytes: int, into: memoryview | None
    ) -> http1.Answer:
        connection = self._connection()
        was_open = connection.is_open
        try:
            return connection.get(target, headers, most_bytes, into)
        except OSError as error:
            # The server may have closed it while it was idle, so this once it is tried again at once.
            if not was_open or isinstance(error, (TimeoutError, ssl.SSLError)):
                raise
        return connection.get(target, headers, most_bytes, into)

    def _connection(self) -> http1.Connection:
        """That of this thread."""
        connection: http1.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http1.Connection(*self._server, self._context)
            with self._mutex:
                self._opened.append(connection)
        return connection


def _encode(query: Mapping[str, str]) -> str:
    """In the order of the names, as signatures want it."""
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query.items())
    return "&".join([f"{name}={value}" for name, value in pairs])


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
