"""What Google Cloud Storage refuses, in our words, and the permission that was missing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from donjon.core.errors import DonjonError, PermissionMissing, StoreError, StoreUnavailable
from donjon.core.operations import Operation
from donjon.stores.base import already_exists, not_found

_NO_BUCKET = "Correct the address, or make the bucket: `donjon init --create` does."
_RETRYABLE = {408, 429, 500, 502, 503, 504}


def api_error() -> Any:
    """The class of Google's errors that come with a status."""
    from google.api_core.exceptions import GoogleAPICallError

    return GoogleAPICallError


@contextlib.contextmanager
def translating(url: str, asked: Operation, name: str, version: str | None = None) -> Iterator[None]:
    """Raise our errors for Google's, about the object ``name`` of the store at ``url``."""
    try:
        yield
    except DonjonError:
        raise
    except Exception as error:
        translated = _translated(error, url, asked, name, version)
        if translated is None:
            raise
        raise translated from error


def _translated(
    error: Exception, url: str, asked: Operation, name: str, version: str | None
) -> DonjonError | None:
    import requests
    import urllib3
    from google.auth.exceptions import GoogleAuthError, TransportError
    from google.cloud.storage.exceptions import DataCorruption

    what = f"{url}/{name}".rstrip("/")
    if isinstance(error, api_error()):
        return _translated_answer(error, url, asked, name, version)
    if isinstance(error, DataCorruption):
        return StoreUnavailable(f"{what}: bytes were damaged on the way", hint="Try again.")
    # A body that ends too early comes as urllib3 raises it.
    unreachable = (requests.exceptions.RequestException, TransportError, urllib3.exceptions.HTTPError)
    if isinstance(error, unreachable):
        return StoreUnavailable(
            f"{what}: Google Cloud Storage cannot be reached: {error}",
            hint="Look at the network, the proxy and STORAGE_EMULATOR_HOST, then try again.",
        )
    if isinstance(error, GoogleAuthError):
        return PermissionMissing(
            f"{what}: no valid Google credentials: {error}",
            hint="Run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS.",
        )
    return None


def _translated_answer(error: Any, url: str, asked: Operation, name: str, version: str | None) -> DonjonError:
    code, text = error.code, str(error.message)
    what = f"{url}/{name}".rstrip("/")
    if code == 404 and name and not asked.creates:
        return not_found(name, version)
    if code == 404:
        return StoreError(f"{url}: there is no such bucket", hint=_NO_BUCKET)
    if code == 412 and asked.creates:
        return already_exists(name)
    if code in {401, 403}:
        needed = ", ".join(asked.permissions)
        return PermissionMissing(
            f"{what}: Google refused to {asked.action} it (needs {needed}): {text}",
            hint=f"Grant {needed} on the bucket to the account that is used here.",
        )
    if code in _RETRYABLE or (code == 400 and "crc32c" in text.lower()):  # the latter: damaged on the way
        return StoreUnavailable(f"{what}: Google asks to try again: {text}", hint="Try again later.")
    return StoreError(f"{what}: Google refused to {asked.action} it, with status {code}: {text}")
