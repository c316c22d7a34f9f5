"""Clients of the SDK of AWS, and what its errors mean whatever the service.

Credentials, profiles, roles, regions and endpoints come from the SDK's standard chain. The SDK itself never
retries: whoever wraps an adapter does, and two loops around each other multiply.
"""

from __future__ import annotations

from typing import Any

from donjon.core.errors import CredentialsRejected, DonjonError, UsageError

#: Codes for a key of access that no service takes
#: (https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html).
BAD_CREDENTIALS = {
    "InvalidAccessKeyId", "InvalidClientTokenId", "InvalidSignatureException", "InvalidToken",
    "MissingAuthenticationToken", "MissingAuthenticationTokenException",
    "SignatureDoesNotMatch", "Unauthorized", "UnrecognizedClientException", "401",
}  # fmt: skip
EXPIRED_CREDENTIALS = {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
THROTTLED = {
    "BandwidthLimitExceeded", "RequestLimitExceeded", "SlowDown", "Throttling", "ThrottlingException",
    "TooManyRequests", "TooManyRequestsException",
}  # fmt: skip


def client(
    service: str,
    what: str,
    *,
    region: str | None,
    endpoint: str | None = None,
    profile: str | None = None,
    **config: Any,
) -> Any:
    """A client of the SDK for ``service``, which tries everything once.

    ``what`` needs it, for messages. ``region`` is that of the SDK's chain if None, and some region if there
    is an endpoint but none of these. ``profile`` is used instead of what else the chain would find.
    ``config`` is more for botocore's Config. Raises ``UsageError`` if the SDK is not installed or has no such
    profile, and what the SDK raises.
    """
    _, config_class = _sdk(what)
    session = _session(what, profile)
    region = region or session.region_name or ("us-east-1" if endpoint else None)
    settings = config_class(
        retries={"total_max_attempts": 1, "mode": "standard"},
        tcp_keepalive=True,
        user_agent_appid="donjon",
        **config,
    )
    return session.client(service, region_name=region, endpoint_url=endpoint, config=settings)


def credentials(what: str, *, profile: str | None = None) -> Any:
    """The credentials of the SDK's chain, or of a profile, which renew themselves; None for none.

    Raises ``UsageError`` if the SDK is not installed or has no such profile, and what the SDK raises.
    """
    return _session(what, profile).get_credentials()


def default_region(what: str) -> str | None:
    """The region that the user chose for the SDK, None for none."""
    region: str | None = _session(what).region_name
    return region


def common_fault(error: Exception, place: str) -> DonjonError | None:
    """Our error for one of the SDK that never reached a service; None for any other."""
    from botocore import exceptions as sdk

    without_credentials = (
        sdk.NoCredentialsError,
        sdk.PartialCredentialsError,
        sdk.CredentialRetrievalError,
        sdk.TokenRetrievalError,
        sdk.NoAuthTokenError,
        sdk.SSOError,
    )
    if isinstance(error, without_credentials):
        return CredentialsRejected(
            f"{place}: no usable credentials: {one_line(error)}",
            hint="Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; `aws sso login` renews a "
            "session.",
        )
    badly_set = (sdk.ProfileNotFound, sdk.ConfigParseError, sdk.NoRegionError, sdk.InvalidRegionError)
    if isinstance(error, badly_set):
        return UsageError(
            f"{place}: {one_line(error)}", hint="Look at AWS_PROFILE, AWS_DEFAULT_REGION and ~/.aws/config."
        )
    return None


def one_line(error: Exception) -> str:
    """The text of an error of the SDK, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.replace(" (reached max retries: 0)", "")


def expired(place: str, reason: str) -> CredentialsRejected:
    """The error for one of ``EXPIRED_CREDENTIALS``."""
    return CredentialsRejected(
        f"{place}: the credentials have expired: {reason}", hint="Renew them, then run the command again."
    )


def not_accepted(place: str, reason: str) -> CredentialsRejected:
    """The error for one of ``BAD_CREDENTIALS``."""
    return CredentialsRejected(
        f"{place}: the credentials are not accepted: {reason}", hint="Look at AWS_PROFILE and the access key."
    )


def _sdk(what: str) -> tuple[Any, Any]:
    try:
        import boto3  # here, for it takes longer to load than `donjon --version` may
        from botocore.config import Config
    except ImportError as error:
        msg = f"{what} needs a package that is not installed"
        raise UsageError(msg, hint="Run: pip install 'donjon[aws]'") from error
    return boto3, Config


def _session(what: str, profile: str | None = None) -> Any:
    sdk, _ = _sdk(what)
    from botocore.exceptions import ProfileNotFound

    try:
        return sdk.session.Session(profile_name=profile)
    except ProfileNotFound as error:
        if profile is None:
            raise
        msg = f"there is no profile {profile!r}"
        raise UsageError(msg, hint="Look at ~/.aws/config, or AWS_CONFIG_FILE.") from error
