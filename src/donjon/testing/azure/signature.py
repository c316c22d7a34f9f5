"""Shared Key signatures of Azure Storage, for a front that checks and makes them.

See https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from donjon.testing.front import Request

_SIGNED = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
)


def signature(request: Request, account: str, key: str) -> str:
    """The signature that belongs to a request; ``key`` is in base64, as Azure gives it."""
    fields = [request.headers.get(name, "") for name in _SIGNED]
    fields[2] = "" if fields[2] == "0" else fields[2]
    own = sorted((name, value) for name, value in request.headers.items() if name.startswith("x-ms-"))
    resource = f"/{account}{request.raw_path}"
    for name, value in sorted(request.query.items()):
        resource += f"\n{name.lower()}:{value}"
    headers = "".join(f"{name}:{value}\n" for name, value in own)
    text = "\n".join([request.method, *fields]) + "\n" + headers + resource
    mac = hmac.digest(base64.b64decode(key), text.encode(), hashlib.sha256)
    return base64.b64encode(mac).decode()
