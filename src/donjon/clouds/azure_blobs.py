"""Clients of Azure Blob Storage.

Credentials are those of ``azure.identity.DefaultAzureCredential``, or those in
``AZURE_STORAGE_CONNECTION_STRING``. The SDK itself never retries: whoever uses a client does, and two loops
around each other multiply.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from donjon.core.errors import UsageError
from donjon.core.units import MIB

if TYPE_CHECKING:
    from azure.storage.blob import BlobServiceClient

#: Longest silence of the provider.
_TIMEOUT_S: Final = 60
#: Largest answer that is asked for at once.
_SINGLE_GET_BYTES: Final = 256 * MIB
_VARIABLE: Final = "AZURE_STORAGE_CONNECTION_STRING"


def need_sdk() -> None:
    """Raises ``UsageError`` without the packages of the extra."""
    try:
        import azure.storage.blob  # noqa: F401  (only to see whether it is there)
    except ImportError as error:
        msg = "Azure Blob Storage needs packages that are not installed"
        raise UsageError(msg, hint="Run: pip install 'donjon[azure]'") from error


def blob_service(
    account: str, connection_string: str | None = None, *, client_id: str | None = None, **options: Any
) -> BlobServiceClient:
    """A client for a storage account. Nothing is asked yet.

    Without a ``connection_string`` the environment tells how to connect. ``client_id`` is that of a managed
    identity. ``options`` are more for the client. Raises ``UsageError`` for what cannot be used, or without
    the packages of the extra.
    """
    need_sdk()
    from azure.storage.blob import BlobServiceClient

    options = {
        "retry_total": 0,
        "connection_timeout": _TIMEOUT_S,
        "read_timeout": _TIMEOUT_S,
        "max_single_get_size": _SINGLE_GET_BYTES,
        "max_chunk_get_size": _SINGLE_GET_BYTES,
    } | options
    told = connection_string or os.environ.get(_VARIABLE)
    if told is None:
        from azure.identity import DefaultAzureCredential

        credential = DefaultAzureCredential(managed_identity_client_id=client_id)
        return BlobServiceClient(f"https://{account}.blob.core.windows.net", credential=credential, **options)
    try:
        service = BlobServiceClient.from_connection_string(told, **options)
    except ValueError as error:
        msg = f"{_VARIABLE} cannot be used: {error}"
        raise UsageError(msg, hint="Copy it anew from the account, or unset it to use `az login`.") from error
    if service.account_name != account:
        msg = f"{_VARIABLE} is of the account {service.account_name}, not {account}"
        raise UsageError(msg, hint="Correct the address, or unset the variable.")
    return service
