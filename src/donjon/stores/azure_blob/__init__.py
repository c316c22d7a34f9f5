"""A store in a container of Azure Blob Storage."""

from donjon.stores.azure_blob.operations import PERMISSIONS
from donjon.stores.azure_blob.store import AzureBlobStore

__all__ = ["PERMISSIONS", "AzureBlobStore"]
