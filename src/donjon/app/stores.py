"""Builds stores from their addresses. No other module does."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from donjon.core.addresses import split_address
from donjon.core.errors import UsageError
from donjon.stores.base import ObjectStore

if TYPE_CHECKING:
    from donjon.plan.model import Credential  # which takes long to load, and few commands need it

_ADDRESSES = (
    "file:///path, sftp://user@host/path, s3://bucket/prefix, azure://account/container/prefix or"
    " gs://bucket/prefix"
)
#: The schemes of stores in clouds.
BUCKETS = {"azure", "gs", "s3"}
#: A call is tried again for so long.
PATIENCE_S = 120.0


def normal_url(url: str) -> str:
    """The address with its scheme; a bare path becomes ``file://`` with an absolute path."""
    if "://" in url:
        return url
    return Path(url).absolute().as_uri()


def with_endpoint(url: str, endpoint: str | None) -> str:
    """The address with the endpoint in it, so that it is remembered with the vault.

    By default that is the one of ``AWS_ENDPOINT_URL_S3`` or ``AWS_ENDPOINT_URL``, as the AWS tools have it.
    Raises ``UsageError`` for an endpoint of a store that has none.
    """
    if split_address(url).scheme == "s3":
        from donjon.stores.s3 import S3Address

        names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
        usual = next((value for name in names if (value := os.environ.get(name))), None)
        return S3Address.parse(url).at(endpoint or usual).url
    if endpoint is not None:
        msg = f"{url}: has no endpoint"
        raise UsageError(msg, hint="Only s3:// addresses take --endpoint.")
    return url


def open_store(
    url: str, *, create: bool = False, patience_s: float = PATIENCE_S, credential: Credential | None = None
) -> ObjectStore:
    """The store at an address, with retries for so long. Raises ``UsageError`` for what is no address.

    ``credential`` says whom to be in a cloud; without it the chain of the provider's SDK is asked.
    """
    from donjon.stores.retry import RetryingStore

    url = normal_url(url)
    parts = split_address(url)
    if parts.scheme == "file":
        from donjon.stores.local import LocalStore

        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            msg = f"{url}: is no address of a local folder"
            raise UsageError(msg, hint="Write file:///absolute/path.")
        folder = local_folder(url)
        assert folder is not None  # noqa: S101  (a file:// address has one)
        return LocalStore.create(folder) if create else LocalStore(folder)
    if parts.scheme == "sftp":
        from donjon.stores.sftp import SftpStore

        sftp = SftpStore.create(url) if create else SftpStore(url)
        return RetryingStore(sftp, budget_s=patience_s)
    if parts.scheme in BUCKETS:
        from donjon.stores.first_versions import FirstVersions

        return RetryingStore(FirstVersions(_bucket(url, parts.scheme, credential)), budget_s=patience_s)
    msg = f"{url}: Donjon has no store for {parts.scheme}:// yet"
    raise UsageError(msg, hint=f"Use {_ADDRESSES}.")


def _bucket(url: str, scheme: str, credential: Credential | None) -> ObjectStore:
    """The store in a bucket or container of a cloud."""
    if scheme == "azure":
        from donjon.stores.azure_blob import AzureBlobStore

        return AzureBlobStore(url, client_id=credential.azure_client if credential else None)
    if scheme == "gs":
        from donjon.stores.gcs import GcsStore

        return GcsStore(url, account=credential.google_account if credential else None)
    from donjon.stores.s3 import S3Address, S3Store
    from donjon.stores.s3.client import S3Client, connect

    profile = credential.aws_profile if credential else None
    if profile is None:
        return S3Store(url)
    address = S3Address.parse(url)
    return S3Store(address, S3Client(address, connect(address, profile=profile)))


def local_folder(url: str) -> Path | None:
    """The folder behind a ``file://`` address, None for any other store."""
    parts = split_address(normal_url(url))
    return Path(unquote(parts.path)) if parts.scheme == "file" else None
