"""A store in a bucket of Google Cloud Storage."""

from donjon.stores.gcs.operations import PERMISSIONS
from donjon.stores.gcs.store import GcsStore

__all__ = ["PERMISSIONS", "GcsStore"]
