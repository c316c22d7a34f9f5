"""What can be rendered: for which cloud, in which format."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from donjon.core.errors import UsageError
from donjon.roles import (
    aws_cloudformation,
    aws_json,
    aws_terraform,
    azure_arm,
    azure_bicep,
    azure_terraform,
    gcp_json,
    gcp_terraform,
    openbao,
)
from donjon.roles.account import Account

RENDERERS: Mapping[tuple[str, str], Callable[[Account], str]] = {
    ("aws", "cloudformation"): aws_cloudformation.render,
    ("aws", "terraform"): aws_terraform.render,
    ("aws", "json"): aws_json.render,
    ("azure", "bicep"): azure_bicep.render,
    ("azure", "terraform"): azure_terraform.render,
    ("azure", "json"): azure_arm.render,
    ("gcp", "terraform"): gcp_terraform.render,
    ("gcp", "json"): gcp_json.render,
    ("s3", "json"): aws_json.render_s3,
    ("openbao", "hcl"): openbao.render,
}
#: Options that a cloud knows nothing of, by the field of ``Account``; giving one is an error, not a wish.
_FOREIGN: Mapping[str, tuple[str, ...]] = {
    "aws": ("allow_ip", "principals", "storage_account", "resource_group", "managed_hsm"),
    "azure": ("production", "operators", "external_id", "log_bucket"),
    "gcp": ("production", "operators", "external_id", "storage_account", "resource_group", "managed_hsm"),
    "s3": (
        "owner",
        "production",
        "operators",
        "external_id",
        "allow_ip",
        "principals",
        "break_glass",
        "private_network",
        "storage_account",
        "resource_group",
        "managed_hsm",
        "region",
        "log_bucket",
    ),
    "openbao": (
        "owner",
        "production",
        "operators",
        "external_id",
        "allow_ip",
        "principals",
        "break_glass",
        "private_network",
        "storage_account",
        "resource_group",
        "managed_hsm",
        "region",
        "log_bucket",
        "writers",
    ),
}
_OPTIONS = {
    "owner": "account",
    "production": "production-account",
    "operators": "operators-account",
    "principals": "principal",
    "writers": "writer",
}


def render(cloud: str, form: str, account: Account) -> str:
    """The whole text. Raises ``UsageError`` for what does not exist, with what does."""
    renderer = RENDERERS.get((cloud, form))
    if renderer is None:
        msg = f"there is nothing to render for --cloud {cloud} in --format {form}"
        pairs = ", ".join(f"{known} {format_}" for known, format_ in RENDERERS)
        raise UsageError(msg, hint=f"There are: {pairs}.")
    for field in _FOREIGN[cloud]:
        if getattr(account, field):
            option = _OPTIONS.get(field, field.replace("_", "-"))
            msg = f"--{option} means nothing for --cloud {cloud}"
            raise UsageError(msg, hint="Leave it out; see docs/roles.md for what each cloud takes.")
    return renderer(account)
