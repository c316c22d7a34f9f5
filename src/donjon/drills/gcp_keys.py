"""Attacks on the keys in Google Cloud KMS that open a vault.

Nothing changes: what a decryption gives back is dropped, the policy and the state of the primary version are
put as they are, and the version that is to be destroyed does not exist, which Cloud KMS tells only to who may
destroy the versions of this key, and 403 to others
(https://docs.cloud.google.com/kms/docs/reference/permissions-and-roles).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from donjon.core.errors import CredentialsRejected, StoreUnavailable
from donjon.drills.base import ADMINISTRATOR, Answer, Attack, NotTried
from donjon.drills.keys import OPENING, Service
from donjon.keys.gcp_kms import GcpKey, status_of

#: Versions are counted from 1, and no key comes this far.
_NO_VERSION: Final = 2_147_483_647
_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the vault, and the SDK's client with the attacker's credential."""

    key: GcpKey
    sealed: bytes
    info: bytes
    client: Any


def ask(method: Callable[..., Any], **request: Any) -> tuple[Answer, Any]:
    """What comes of one request, and what was told if it was carried out.

    Raises ``CredentialsRejected`` if the credential is not known, and ``StoreUnavailable`` if there is no
    answer.
    """
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError, TransportError

    try:
        return Answer("accepted", accepted=True), method(request=request, retry=None, timeout=_TIMEOUT_S)
    except GoogleAPICallError as error:
        status = int(error.code or 0)
        text = f"{status} {status_of(error)}".strip()
        if status == 401:
            msg = f"the credential is not accepted: {text}"
            hint = "Renew it; a refusal of everybody proves nothing."
            raise CredentialsRejected(msg, hint=hint) from error
        return Answer(text, is_known=400 <= status < 500 and status not in {405, 429}), None
    except (OSError, TransportError) as error:
        msg = f"Cloud KMS does not answer: {' '.join(str(error).split())}"
        raise StoreUnavailable(msg, hint="Run the drill again.") from error
    except GoogleAuthError as error:
        msg = f"no valid Google credentials: {' '.join(str(error).split())}"
        hint = "Run `gcloud auth application-default login`; a refusal of everybody proves nothing."
        raise CredentialsRejected(msg, hint=hint) from error


def _decrypt(key: Key) -> Iterator[Answer]:
    """What comes back is the vault secret, and is dropped."""
    yield ask(
        key.client.decrypt,
        name=key.key.name,
        ciphertext=key.sealed,
        additional_authenticated_data=key.info,
    )[0]


def _policy(key: Key) -> Iterator[Answer]:
    """Its etag makes that fail if somebody changes it meanwhile."""
    answer, present = ask(key.client.get_iam_policy, resource=key.key.name)
    if not answer.accepted:
        raise NotTried(f"the present policy cannot be read, so it could not be left as it is ({answer.text})")
    yield ask(key.client.set_iam_policy, resource=key.key.name, policy=present)[0]


def _disable(key: Key) -> Iterator[Answer]:
    """Put the state of the primary version as it is, which takes what disabling it takes."""
    answer, told = ask(key.client.get_crypto_key, name=key.key.name)
    if not answer.accepted:
        raise NotTried(f"the state of the key cannot be read ({answer.text})")
    version = {"name": told.primary.name, "state": told.primary.state}
    yield ask(
        key.client.update_crypto_key_version, crypto_key_version=version, update_mask={"paths": ["state"]}
    )[0]


def _destroy(key: Key) -> Iterator[Answer]:
    name = f"{key.key.name}/cryptoKeyVersions/{_NO_VERSION}"
    answer = ask(key.client.destroy_crypto_key_version, name=name)[0]
    yield Answer(answer.text, accepted=True) if answer.text.startswith("404") else answer


SERVICE: Service[Key] = Service(
    (
        (Attack("cloudkms-decrypt", "decrypt with the key in Cloud KMS", allowed=OPENING), _decrypt),
        (
            Attack("cloudkms-policy", "change the policy of the key in Cloud KMS", allowed=ADMINISTRATOR),
            _policy,
        ),
        (Attack("cloudkms-disable", "disable the key in Cloud KMS", allowed=ADMINISTRATOR), _disable),
        (
            Attack("cloudkms-destroy", "destroy a version of the key in Cloud KMS", allowed=ADMINISTRATOR),
            _destroy,
        ),
    ),
    lambda _: "",
)
