"""What Azure Blob Storage refuses, in our words, and the action that the caller's roles lack."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from donjon.core.errors import DonjonError, PermissionMissing, StoreError, StoreUnavailable
from donjon.core.operations import Operation
from donjon.stores.base import already_exists, not_found

if TYPE_CHECKING:
    from azure.core.exceptions import HttpResponseError

_RETRYABLE = {408, 429, 500, 502, 503, 504}
#: The bytes that arrived are not those that were sent
#: (https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes).
_DAMAGED = {"Md5Mismatch", "Crc64Mismatch"}


@contextlib.contextmanager
def translating(url: str, asked: Operation, name: str, version: str | None = None) -> Iterator[None]:
    """Raise our errors for Azure's, about the object ``name`` of the store at ``url``."""
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
    from azure.core import exceptions

    what = f"{url}/{name}".rstrip("/")
    if isinstance(error, exceptions.HttpResponseError) and error.status_code:
        return _translated_answer(error, url, asked, name, version)
    if isinstance(error, exceptions.ClientAuthenticationError):
        return PermissionMissing(
            f"{what}: no valid Azure credentials: {error.message}",
            hint="Run `az login`, or set what azure-identity's DefaultAzureCredential reads.",
        )
    if isinstance(error, exceptions.AzureError):  # no answer, or half of one
        return StoreUnavailable(
            f"{what}: Azure Blob Storage cannot be reached: {error.message}",
            hint="Look at the account's name, the network and the proxy, then try again.",
        )
    return None


def _translated_answer(
    error: HttpResponseError, url: str, asked: Operation, name: str, version: str | None
) -> DonjonError:
    status, code = error.status_code or 0, error_code(error)
    what, text = f"{url}/{name}".rstrip("/"), str(error.message).partition("\n")[0]
    if code == "ContainerNotFound" or (status == 404 and (not name or asked.creates)):
        return StoreError(
            f"{url}: there is no such container", hint="Correct the address, or make the container."
        )
    if status == 404 or code == "InvalidQueryParameterValue":  # the latter for a version that none can be
        return not_found(name, version)
    if asked.creates and code == "BlobAlreadyExists":
        return already_exists(name)
    if status in {401, 403}:
        needed = ", ".join(asked.permissions)
        return PermissionMissing(
            f"{what}: Azure refused to {asked.action} it (needs {needed}): {code}: {text}",
            hint="Give the identity that is used here a role with these actions on the container.",
        )
    if status in _RETRYABLE or code in _DAMAGED:
        return StoreUnavailable(f"{what}: Azure asks to try again: {code}: {text}", hint="Try again later.")
    return StoreError(f"{what}: Azure refused to {asked.action} it, with status {status} {code}: {text}")


def error_code(error: HttpResponseError) -> str:
    """Azure's own name for a refusal, such as ``BlobImmutableDueToPolicy``."""
    code = getattr(error, "error_code", None)
    response: Any = error.response
    if code is None and response is not None:  # some calls of the SDK do not look for it
        code = response.headers.get("x-ms-error-code")
    return str(getattr(code, "value", code or ""))
