"""Takes out of a text what is secret by its form, before people or logs see it.

Nothing of ours puts a secret into a message. But messages quote what users typed, such as an address with a
signature in it, and what services and their SDKs say; so whatever is printed as an error passes through here.
"""

from __future__ import annotations

import re
from typing import Final

_HIDDEN: Final = "***"
#: A parameter of an address or of a connection string whose value is a secret: signatures of Azure, AWS and
#: Google, account keys, tokens, and what programs call their passwords.
_NAMED: Final = re.compile(
    r"""(?ix)
    (\b(?: sig | accountkey | sharedaccesssignature | x-(?:amz|goog)-(?:signature|security-token)
         | aws_secret_access_key | aws_session_token | secretaccesskey | sessiontoken | client_?secret
         | access_?token | refresh_?token | id_?token | client_?assertion | private_?key | x-vault-token
         | password | passwd | passphrase )
      ["']? \s* [=:] \s* ["']? )
    [^\s&;,"'<>]+"""
)
_BEARER: Final = re.compile(r"(?i)\b(bearer|authorization: *\w+)\s+[A-Za-z0-9._~+/=-]{8,}")
_PASSWORD_IN_ADDRESS: Final = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]*://[^\s/@:]*):[^\s/@]+@")
#: Tokens of OpenBao and Vault, https://developer.hashicorp.com/vault/docs/concepts/tokens#token-prefixes
_VAULT_TOKEN: Final = re.compile(r"\b(?:hv[sbr]|[sbr])\.[A-Za-z0-9_-]{24,}")
_PEM: Final = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)


def redacted(text: str) -> str:
    """The text with passwords in addresses, values of secret parameters, tokens and private keys replaced."""
    text = _PEM.sub(_HIDDEN, text)
    text = _PASSWORD_IN_ADDRESS.sub(rf"\1:{_HIDDEN}@", text)
    text = _BEARER.sub(rf"\1 {_HIDDEN}", text)
    text = _VAULT_TOKEN.sub(_HIDDEN, text)
    return _NAMED.sub(rf"\1{_HIDDEN}", text)
