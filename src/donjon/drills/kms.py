"""Attacks on the keys in AWS KMS that open a vault.

None of them uses a secret: a decryption is asked for as a dry run, and whatever comes back is dropped. The
key policy is put as it is. Disabling a key, and scheduling its deletion, is tried only if the user wants
that: what went through is undone at once, and the key of a vault is no use for that moment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from donjon.drills.base import ADMINISTRATOR, Answer, Attack, NotTried
from donjon.drills.keys import OPENING, Service
from donjon.drills.s3_field import ask
from donjon.format.vault import secret_info
from donjon.keys.aws_kms import AwsKey, encryption_context
from donjon.keys.base import AWS_KMS
from donjon.repository.vault import Vault

#: The longest that KMS takes (https://docs.aws.amazon.com/kms/latest/APIReference/API_ScheduleKeyDeletion.html).
_LONGEST_DAYS = 30
#: What KMS says to a dry run that would have gone through
#: (https://docs.aws.amazon.com/kms/latest/developerguide/testing-permissions.html).
_WOULD = "DryRunOperationException"
#: Answers that tell nothing of permissions.
_ELSEWHERE = {"NotFoundException", "ValidationException", "UnsupportedOperationException"}


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the vault, and two clients of KMS in its region: the attacker's, and that of the drill."""

    arn: str
    attacker: Any
    eyes: Any
    sealed: bytes
    info: bytes

    @property
    def state(self) -> str:
        """As KMS calls it. Raises ``NotTried`` if it may not be seen."""
        answer, told = ask(self.eyes.describe_key, KeyId=self.arn)
        if not answer.accepted:
            raise NotTried(f"the state of the key cannot be read ({answer.text})")
        return str(told["KeyMetadata"]["KeyState"])


def keys_of(vault: Vault, clients: Callable[[str], tuple[Any, Any]]) -> list[Key]:
    """The keys in KMS to which the vault is sealed; ``clients`` makes both clients for a region."""
    found = []
    for member in vault.keyring.members.values():
        if member.recipient.kind == AWS_KMS:
            key = AwsKey.of(member.recipient)
            info = secret_info(vault.vault_id)
            found.append(Key(key.arn, *clients(key.region), member.sealed_secret, info))
    return found


def _decrypt(key: Key) -> Iterator[Answer]:
    answer = ask(
        key.attacker.decrypt,
        KeyId=key.arn,
        CiphertextBlob=key.sealed,
        EncryptionContext=encryption_context(key.info),
        DryRun=True,
    )[0]
    yield replace(answer, accepted=answer.accepted or _WOULD in answer.text)


def _policy(key: Key) -> Iterator[Answer]:
    named = {"KeyId": key.arn, "PolicyName": "default"}
    answer, told = ask(key.eyes.get_key_policy, **named)
    if not answer.accepted:
        raise NotTried("the present policy cannot be read, so it could not be left as it is")
    yield ask(key.attacker.put_key_policy, **named, Policy=told["Policy"])[0]


def _disable(key: Key) -> Iterator[Answer]:
    if key.state != "Enabled":
        raise NotTried("the key is not enabled")
    try:
        yield ask(key.attacker.disable_key, KeyId=key.arn)[0]
    finally:
        _revive(key)


def _schedule(key: Key) -> Iterator[Answer]:
    if key.state != "Enabled":
        raise NotTried("the key is not enabled")
    try:
        window = {"PendingWindowInDays": _LONGEST_DAYS}
        yield ask(key.attacker.schedule_key_deletion, KeyId=key.arn, **window)[0]
    finally:
        _revive(key)


def _revive(key: Key) -> None:
    """Undo what went through, whoever may."""
    for client in (key.eyes, key.attacker):
        with contextlib.suppress(NotTried):
            if key.state == "Enabled":
                return
        ask(client.cancel_key_deletion, KeyId=key.arn)
        ask(client.enable_key, KeyId=key.arn)


ATTACKS: tuple[tuple[Attack, Callable[[Key], Iterator[Answer]]], ...] = (
    (Attack("kms-decrypt", "decrypt with the key in KMS", allowed=OPENING), _decrypt),
    (Attack("kms-policy", "change the policy of the key in KMS", allowed=ADMINISTRATOR), _policy),
    (
        Attack("kms-disable", "disable the key in KMS", allowed=ADMINISTRATOR, intrusive=True),
        _disable,
    ),
    (
        Attack(
            "kms-delete", "schedule the deletion of the key in KMS", allowed=ADMINISTRATOR, intrusive=True
        ),
        _schedule,
    ),
)


def _known(way: Callable[[Key], Iterator[Answer]]) -> Callable[[Key], Iterator[Answer]]:
    """The same, with answers that tell nothing of permissions marked."""

    def marked(key: Key) -> Iterator[Answer]:
        for answer in way(key):
            yield replace(answer, is_known=answer.text.partition(" ")[2] not in _ELSEWHERE)

    return marked


def _loss(key: Key) -> str:
    return "" if (state := key.state) == "Enabled" else f"the key is {state}"


SERVICE: Service[Key] = Service([(attack, _known(way)) for attack, way in ATTACKS], _loss)
