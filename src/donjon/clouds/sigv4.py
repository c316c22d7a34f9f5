"""Signature Version 4 of AWS for requests without a body.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html. botocore has the
same for requests of all kinds, and took a fifth of the time in which a bucket of small objects was read; see
docs/adr/0032-straight-gets.md. The tests hold this one against it.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from typing import Final, Protocol
from urllib.parse import quote

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_NO_BODY: Final = hashlib.sha256(b"").hexdigest()


class Credentials(Protocol):
    """What botocore calls frozen credentials. ``token`` belongs to those that end."""

    access_key: str
    secret_key: str
    token: str | None


class Signer:
    """Signs GETs for one service, region and host. Safe to share between threads."""

    def __init__(self, service: str, region: str, host: str, clock: Callable[[], float] = time.time) -> None:
        """``clock`` gives seconds since 1970; AWS takes signatures of the last 15 minutes."""
        self._service = service
        self._scope = f"{region}/{service}/aws4_request"
        self._host = host
        self._clock = clock
        self._key: tuple[str, str, bytes] = ("", "", b"")
        self._second: tuple[int, str] = (-1, "")

    def headers(
        self, path: str, query: str, headers: Mapping[str, str], credentials: Credentials
    ) -> dict[str, str]:
        """All headers of a signed request: ``host``, those given, and those of the signature.

        ``path`` and ``query`` are percent-encoded, with the parameters in order; names of ``headers`` are in
        small letters, and their values have no spaces side by side.
        """
        now = self._now()
        told = {"host": self._host, **headers, "x-amz-date": now}
        if credentials.token:
            told["x-amz-security-token"] = credentials.token
        if self._service == "s3":  # which wants this header, and its paths as they are
            told["x-amz-content-sha256"] = _NO_BODY
        else:
            path = quote(path, safe="/~")
        names = sorted(told)
        signed = ";".join(names)
        lines = "".join([f"{name}:{told[name]}\n" for name in names])
        request = f"GET\n{path}\n{query}\n{lines}\n{signed}\n{_NO_BODY}"
        day = now[:8]
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = f"{_ALGORITHM}\n{now}\n{day}/{self._scope}\n{digest}"
        signature = _hmac(self._key_of(day, credentials.secret_key), text).hex()
        told["authorization"] = (
            f"{_ALGORITHM} Credential={credentials.access_key}/{day}/{self._scope}, "
            f"SignedHeaders={signed}, Signature={signature}"
        )
        return told

    def _now(self) -> str:
        second = int(self._clock())
        known, text = self._second
        if known != second:
            text = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
            self._second = (second, text)
        return text

    def _key_of(self, day: str, secret: str) -> bytes:
        """The key that a secret has on a day."""
        known_day, known_secret, key = self._key
        if (known_day, known_secret) != (day, secret):
            key = f"AWS4{secret}".encode()
            for part in (day, *self._scope.split("/")):
                key = _hmac(key, part)
            self._key = (day, secret, key)
        return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
