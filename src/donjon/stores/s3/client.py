"""Asks S3, and listens to its clock."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from donjon.clouds import aws
from donjon.core.errors import DonjonError, PermissionMissing
from donjon.core.operations import Operation
from donjon.stores.s3.address import S3Address
from donjon.stores.s3.errors import Asked, translated
from donjon.stores.s3.operations import ASK_TIME
from donjon.stores.server_clock import ServerClock

_CONNECT_TIMEOUT_S = 20
#: How long the server may leave a connection silent.
_READ_TIMEOUT_S = 60
#: More than any number of worker threads, for one that waits for a connection opens another and drops it.
_CONNECTIONS = 32


class S3Client:
    """One client of the SDK for all threads, made at the first request.

    Credentials, profiles, roles and endpoints come from the SDK's standard chain. The SDK itself never
    retries: ``RetryingStore`` does, and two loops around each other multiply.
    """

    def __init__(self, address: S3Address, client: Any = None) -> None:
        """``client`` is one of boto3, for tests."""
        self.address = address
        self.clock = ServerClock(self._ask_time)
        self._client = client
        self._mutex = threading.Lock()

    def call(
        self, operation: Operation, name: str = "", *, version: str | None = None, **parameters: Any
    ) -> dict[str, Any]:
        """Carry out one request on the object ``name``, or on the bucket; the SDK's answer.

        Raises our errors.
        """
        if name:
            parameters["Key"] = self.address.prefix + name
        if version is not None:
            parameters["VersionId"] = version
        try:
            request = getattr(self._connected(), operation.method)
            answer: dict[str, Any] = request(Bucket=self.address.bucket, **parameters)
        except DonjonError:
            raise
        except Exception as error:
            self._listen(getattr(error, "response", None))
            raise self.translated(error, operation, name, version) from error
        self._listen(answer)
        return answer

    def translated(
        self, error: Exception, operation: Operation, name: str, version: str | None = None
    ) -> DonjonError:
        """Our error for one of the SDK. What no rule of the SDK foresees comes out as it is."""
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        if not isinstance(error, (BotoCoreError, ClientError, OSError, ResponseParserError)):
            raise error
        return translated(error, Asked(operation, name, self.address.url, version))

    @property
    def region(self) -> str:
        """Where requests go, by the SDK's name for it."""
        name: str = self._connected().meta.region_name
        return name

    def close(self) -> None:
        """Give back the connections; the next request opens others."""
        with self._mutex:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _listen(self, answer: dict[str, Any] | None) -> None:
        """Take the time from an answer; even a refusal is dated."""
        self.clock.saw((answer or {}).get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date"))

    def _ask_time(self) -> None:
        with contextlib.suppress(PermissionMissing):
            self.call(ASK_TIME)

    def _connected(self) -> Any:
        with self._mutex:
            if self._client is None:
                self._client = connect(self.address)
            return self._client


def connect(address: S3Address, *, profile: str | None = None) -> Any:
    """A client of the SDK that tries everything once, with the credentials of a profile if one is named.

    Raises ``UsageError`` if the SDK is not installed, or there is no such profile.
    """
    # Servers that are no AWS seldom have a name for each bucket, and take any region.
    style = "path" if address.endpoint else "auto"
    return aws.client(
        "s3",
        "S3",
        region=address.region,
        endpoint=address.endpoint,
        profile=profile,
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=_READ_TIMEOUT_S,
        max_pool_connections=_CONNECTIONS,
        # The checksum header is signed, so signing the body as well would only hash it twice.
        s3={"addressing_style": style, "payload_signing_enabled": False},
        request_checksum_calculation="when_required",
        # Nearly all reads are ranges, which have no checksum, and Donjon checks whatever it reads.
        response_checksum_validation="when_required",
    )
