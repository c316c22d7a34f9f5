"""A store in a container of Azure Blob Storage."""

from donjon.stores.azure_blob.errors import PERMISSIONS
from donjon.stores.azure_blob.store import AzureBlobStore

__all__ = ["PERMISSIONS", "AzureBlobStore"]
