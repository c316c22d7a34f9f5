"""Addresses with brackets or ports that are none: an error that says so, wherever somebody writes them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from donjon.app.stores import open_store
from donjon.clouds.objects.address import BucketAddress
from donjon.core.addresses import split_address
from donjon.core.errors import DonjonError, UsageError
from donjon.credentials.azure_storage import read
from donjon.keys.services import parse_address
from donjon.targets.azure_disk import AzureDiskAddress
from donjon.targets.ebs import EbsAddress


@pytest.mark.parametrize("text", ["s3://[x", "http://[::1", "http://host:65536", "http://host:x"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="is no address"):
        split_address(text)


@pytest.mark.parametrize("text", ["", "s3://b", "http://[::1]:80/x", "/a/folder", "C:\\x", "user@host:x"])
def test_what_is_one(text: str) -> None:
    split_address(text)


@pytest.mark.parametrize("scheme", ["s3", "sftp", "azure", "gs", "file"])
@pytest.mark.parametrize("host", ["[x", "host:65536"])
def test_vaults(scheme: str, host: str) -> None:
    with pytest.raises(UsageError):
        open_store(f"{scheme}://{host}/vault/x")
    with pytest.raises(UsageError):
        open_store(f"s3://bucket?endpoint=http://{host}")


PARSERS: dict[str, Callable[[str], object]] = {
    "s3": BucketAddress.parse,
    "gs": BucketAddress.parse,
    "azure": BucketAddress.parse,
    "ebs": EbsAddress.parse,
    "azure-disk": AzureDiskAddress.parse,
    "openbao:https": parse_address,
    "azurekeyvault:https": parse_address,
}


@pytest.mark.parametrize("scheme", PARSERS)
def test_buckets_disks_and_keys(scheme: str) -> None:
    with pytest.raises(UsageError):
        PARSERS[scheme](f"{scheme}://[x/y/z")


@pytest.mark.parametrize(
    "text", ["https://[x?sv=2022-11-02&sig=x", "BlobEndpoint=https://[x;AccountKey=eA==;AccountName=acme"]
)
def test_credentials_of_azure_storage(text: str) -> None:
    with pytest.raises(DonjonError):
        read(text, "here")
