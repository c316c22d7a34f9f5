"""Credentials and clients of Google Cloud.

Credentials are Google's Application Default Credentials, or those of a service account that they impersonate.
"""

from __future__ import annotations

from typing import Any, Final

from donjon.core.errors import UsageError

_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"
_STORAGE_SCOPE: Final = "https://www.googleapis.com/auth/devstorage.full_control"


def need_storage_sdk() -> None:
    """Raises ``UsageError`` without the packages of the extra."""
    try:
        import google.cloud.storage  # noqa: F401  (only to see whether it is there)
    except ImportError as error:
        msg = "Google Cloud Storage needs packages that are not installed"
        raise UsageError(msg, hint="Run: pip install 'donjon[gcp]'") from error


def credentials(account: str | None = None, *, scope: str = _SCOPE) -> tuple[Any, str | None]:
    """What the chain finds or, if given, the service account that it impersonates; and the chain's project.

    Raises what the SDK raises.
    """
    import google.auth  # here, for they take long to load
    from google.auth import impersonated_credentials

    found, project = google.auth.default(scopes=[scope] if account is None else [_SCOPE])
    if account is not None:
        found = impersonated_credentials.Credentials(  # type: ignore[no-untyped-call]  # Google's own
            source_credentials=found, target_principal=account, target_scopes=[scope]
        )
    return found, project


def storage_client(account: str | None = None) -> Any:
    """A client of Cloud Storage, which obeys ``STORAGE_EMULATOR_HOST`` as all of Google's do.

    ``account`` is a service account to impersonate. Raises ``UsageError`` without the packages of the extra,
    and what the SDK raises.
    """
    need_storage_sdk()
    from google.cloud import storage

    if account is None:
        return storage.Client()
    found, project = credentials(account, scope=_STORAGE_SCOPE)
    return storage.Client(project=project, credentials=found)
