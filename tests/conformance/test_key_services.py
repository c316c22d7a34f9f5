"""Every key service: the port's suite, through the real SDKs.

What each server enforces is told where it is started. AWS KMS runs on two: moto refuses seals that were
changed, MiniStack obeys policies and states of keys.
"""

from __future__ import annotations

import functools
import json
import os
import secrets
import subprocess
import sys
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import pkcs11
import pytest
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap_with_padding

from donjon.core.errors import (
    CredentialsRejected,
    DonjonError,
    KeyNotAvailable,
    KeyServiceUnavailable,
    PermissionMissing,
    UsageError,
)
from donjon.format.vault import secret_info
from donjon.keys.address import service_recipient
from donjon.keys.aws_kms import AwsKey, AwsKmsKey
from donjon.keys.azure_keyvault import AzureKey, AzureKeyVaultKey
from donjon.keys.base import KeyService, Recipient
from donjon.keys.gcp_kms import GcpKey, GcpKmsKey
from donjon.keys.info import unbound
from donjon.keys.openbao import OpenBaoKey, TransitKey
from donjon.keys.pkcs11 import Pkcs11Key, TokenAddress
from donjon.keys.services import RetryingKey
from donjon.testing.aws.ministack import MiniStack
from donjon.testing.aws.people import User
from donjon.testing.azure.keyvault import KeyVaultFront, key_vault
from donjon.testing.conformance.keys import KeyServiceTests
from donjon.testing.front import Answer
from donjon.testing.google.kms import GcpKmsFront, gcp_kms
from donjon.testing.servers.openbao import OpenBao
from donjon.testing.servers.softhsm import SoftHsm
from tests.tokens import make_aes, make_rsa, opened

INFO = secret_info(bytes(16))
ANYBODY = User("anybody", "testing", "testing")


def refused(status: int) -> Answer:
    """What Google says with a status; the text is made up."""
    error = {"code": status, "status": "SAID", "message": "too much"}
    return Answer(status, json.dumps({"error": error}).encode(), {"content-type": "application/json"})


class AwsKmsTests(KeyServiceTests):
    """Keys of one region."""

    client: Any

    def make_recipient(self, name: str) -> Recipient:
        made = self.client.create_key()["KeyMetadata"]["Arn"]
        return service_recipient(AwsKey(made), name, 1)

    def connect(self, recipient: Recipient) -> KeyService:
        return AwsKmsKey(recipient, lambda _: self.client)


class TestAwsKmsOnMoto(AwsKmsTests):
    #: It says AccessDenied of a seal that names another key, where AWS says IncorrectKey.
    shut = (KeyNotAvailable, PermissionMissing)

    @pytest.fixture(autouse=True)
    def _server(self, moto_endpoint: str) -> None:
        self.endpoint = moto_endpoint
        self.client = _client(ANYBODY, moto_endpoint)

    def test_a_key_is_in_no_other_region(self) -> None:
        recipient = self.make_recipient("one")
        sealed = self.connect(recipient).seal(bytes(32), INFO)
        moved = AwsKey(AwsKey.of(recipient).in_region("eu-west-1"))
        key = AwsKmsKey(
            service_recipient(moved, "one", 1), lambda region: _client(ANYBODY, self.endpoint, region)
        )
        with pytest.raises(KeyNotAvailable, match="no such key") as caught:
            key.seal(bytes(32), INFO)
        assert "region" in caught.value.hint
        with pytest.raises(KeyNotAvailable, match="no such key"):
            key.open(sealed, INFO)


class TestAwsKmsOnMiniStack(AwsKmsTests):
    @pytest.fixture(autouse=True)
    def _server(self, aws: MiniStack) -> None:
        self.client = _client(aws.root(), aws.endpoint)

    #: It takes seals that were changed or made with another key; moto is where that is proved.
    test_another_key_does_not_open = None  # type: ignore[assignment]
    test_a_flipped_bit_does_not_open = None  # type: ignore[assignment]
    test_a_wrong_length_does_not_open = None  # type: ignore[assignment]


class AzureTests(KeyServiceTests):
    """On a fake of ours, through Azure's own client."""

    front: KeyVaultFront
    client: Any
    place: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _rights(self) -> Iterator[None]:
        yield
        self.front.denied = set()

    def make_recipient(self, name: str) -> Recipient:
        return service_recipient(AzureKey(self.front.make_key()), name, 1)

    def connect(self, recipient: Recipient) -> KeyService:
        return AzureKeyVaultKey(recipient, lambda: self.client)

    def test_a_seal_opens_with_the_version_that_made_it(self) -> None:
        recipient = self.make_recipient("one")
        key, url = self.connect(recipient), AzureKey.of(recipient).url
        old = key.seal(bytes(32), INFO)
        self.front.rotate(url)
        new = key.seal(bytes(32), INFO)
        assert key.open(old, INFO) == key.open(new, INFO) == bytes(32)
        first, second = self.front.versions(url)
        assert (first.encode() in old, second.encode() in new) == (True, True)
        self.front.set_enabled(url, first, enabled=False)
        with pytest.raises(KeyNotAvailable, match="disabled"):
            key.open(old, INFO)
        assert key.open(new, INFO) == bytes(32)
        self.front.set_enabled(url, second, enabled=False)
        with pytest.raises(KeyNotAvailable, match="disabled"):
            key.seal(bytes(32), INFO)
        self.front.delete(url)
        with pytest.raises(KeyNotAvailable, match="no such key") as caught:
            key.open(new, INFO)
        assert "az keyvault key recover" in caught.value.hint

    def test_sealing_and_opening_are_rights_apart(self) -> None:
        key = self.connect(self.make_recipient("one"))
        sealed = key.seal(bytes(32), INFO)
        self.front.denied = {f"Microsoft.KeyVault/{self.place}/keys/unwrap/action"}
        assert key.seal(bytes(32), INFO)
        with pytest.raises(PermissionMissing, match=f"{self.place}/keys/unwrap/action"):
            key.open(sealed, INFO)
        self.front.denied = {f"Microsoft.KeyVault/{self.place}/keys/wrap/action"}
        assert key.open(sealed, INFO) == bytes(32)
        with pytest.raises(PermissionMissing, match=f"{self.place}/keys/wrap/action"):
            key.seal(bytes(32), INFO)

    def test_to_seal_is_one_request(self) -> None:
        recipient = self.make_recipient("one")
        self.connect(recipient).seal(bytes(32), INFO)  # the first answer says how to sign in
        before = len(self.front.requests)
        self.connect(recipient).seal(bytes(32), INFO)
        assert len(self.front.requests) == before + 1

    @pytest.mark.parametrize(
        ("status", "code", "kind", "said"),
        [
            (403, "ForbiddenByFirewall", KeyNotAvailable, "ForbiddenByFirewall"),
            (409, "ObjectIsDeletedButRecoverable", KeyNotAvailable, "pending deletion"),
            (429, "Throttled", KeyServiceUnavailable, "Throttled"),
            (503, "", KeyServiceUnavailable, "503"),
            (200, "", KeyServiceUnavailable, "kid"),
        ],
    )
    def test_refusals_are_told_apart(
        self, status: int, code: str, kind: type[DonjonError], said: str
    ) -> None:
        key = self.connect(self.make_recipient("one"))
        sealed = key.seal(bytes(32), INFO)
        body = json.dumps({"error": {"code": "Odd", "innererror": {"code": code}}} if code else {})
        self.front.next_answers = [Answer(status, body.encode(), {"content-type": "application/json"})]
        with pytest.raises(DonjonError, match=said) as caught:
            key.open(sealed, INFO)
        assert type(caught.value) is kind

    def test_a_service_that_is_not_there_may_be_tried_again(self) -> None:
        with key_vault(hsm=self.place == "managedHsm") as (front, client):
            recipient = service_recipient(AzureKey(front.make_key()), "one", 1)
        with pytest.raises(KeyServiceUnavailable):
            AzureKeyVaultKey(recipient, lambda: client).seal(bytes(32), INFO)


class TestAzureKeyVault(AzureTests):
    """RSA keys take long to make, so that tests share them."""

    place = "vaults"
    made: ClassVar[dict[str, Recipient]] = {}

    @pytest.fixture(autouse=True)
    def _server(self, microsoft: tuple[KeyVaultFront, Any]) -> None:
        self.front, self.client = microsoft

    def make_recipient(self, name: str) -> Recipient:
        if name == "one" and name in self.made and self._is_whole(self.made[name]):
            return self.made[name]
        self.made[name] = super().make_recipient(name)
        return self.made[name]

    def _is_whole(self, recipient: Recipient) -> bool:
        return len(self.front.versions(AzureKey.of(recipient).url)) == 1

    def test_odd_addresses_are_refused(self) -> None:
        key = "https://name.vault.azure.net/keys/Key-1"
        assert AzureKey.parse(key).uri == f"azure-keyvault:{key}"
        assert AzureKey.parse(key.replace("name", "NAME")) == AzureKey.parse(key)
        assert AzureKey.parse(key).identity == AzureKey.parse(key.replace("Key", "kEY")).identity
        odd = ["", "k", f"{key}/{'0' * 32}", f"{key}?x", key.replace("s:", ":"), f"{key}\n"]
        for url in [*odd, key.replace("https://", "https://user:pw@"), key.replace("keys", "secrets")]:
            with pytest.raises(UsageError):
                AzureKey.parse(url)


class TestAzureManagedHsm(AzureTests):
    place = "managedHsm"

    @pytest.fixture(autouse=True)
    def _server(self, microsoft_hsm: tuple[KeyVaultFront, Any]) -> None:
        self.front, self.client = microsoft_hsm


@pytest.fixture(scope="module")
def microsoft() -> Iterator[tuple[KeyVaultFront, Any]]:
    with key_vault() as running:
        yield running


@pytest.fixture(scope="module")
def microsoft_hsm() -> Iterator[tuple[KeyVaultFront, Any]]:
    with key_vault(hsm=True) as running:
        yield running


@pytest.fixture(scope="module")
def google() -> Iterator[tuple[GcpKmsFront, Any]]:
    with gcp_kms() as running:
        yield running


class TestGcpKms(KeyServiceTests):
    """On a fake of ours, through Google's own client."""

    @pytest.fixture(autouse=True)
    def _server(self, google: tuple[GcpKmsFront, Any]) -> Iterator[None]:
        self.front, self.client = google
        yield
        self.front.denied = set()

    def make_recipient(self, name: str) -> Recipient:
        return service_recipient(GcpKey(self.front.make_key()), name, 1)

    def connect(self, recipient: Recipient) -> KeyService:
        return GcpKmsKey(recipient, lambda: self.client)

    def test_old_versions_open_while_they_are_enabled(self) -> None:
        recipient = self.make_recipient("one")
        key, name = self.connect(recipient), GcpKey.of(recipient).name
        old = key.seal(bytes(32), INFO)
        self.front.rotate(name)
        new = key.seal(bytes(32), INFO)
        assert key.open(old, INFO) == key.open(new, INFO) == bytes(32)
        self.front.set_state(name, 1, "DISABLED")
        with pytest.raises(KeyNotAvailable, match="disabled") as caught:
            key.open(old, INFO)
        assert "gcloud kms keys versions enable 1 --project p" in caught.value.hint
        self.front.set_state(name, 1, "DESTROY_SCHEDULED")
        with pytest.raises(KeyNotAvailable, match="pending deletion") as caught:
            key.open(old, INFO)
        assert "versions restore 1 " in caught.value.hint
        assert key.open(new, INFO) == bytes(32)
        self.front.set_state(name, 2, "DISABLED")
        with pytest.raises(KeyNotAvailable, match="disabled"):
            key.seal(bytes(32), INFO)

    def test_sealing_and_opening_are_rights_apart(self) -> None:
        key = self.connect(self.make_recipient("one"))
        sealed = key.seal(bytes(32), INFO)
        self.front.denied = {"cloudkms.cryptoKeyVersions.useToDecrypt"}
        assert key.seal(bytes(32), INFO)
        with pytest.raises(PermissionMissing, match="useToDecrypt"):
            key.open(sealed, INFO)
        self.front.denied = {"cloudkms.cryptoKeyVersions.useToEncrypt"}
        assert key.open(sealed, INFO) == bytes(32)
        with pytest.raises(PermissionMissing, match="useToEncrypt"):
            key.seal(bytes(32), INFO)

    @pytest.mark.parametrize(
        ("answer", "kind", "said"),
        [
            (refused(401), CredentialsRejected, "credentials"),
            (refused(404), KeyNotAvailable, "no such key"),
            (refused(429), KeyServiceUnavailable, "too much"),
            (refused(503), KeyServiceUnavailable, "too much"),
            (Answer(502, b"<html>"), KeyServiceUnavailable, "cannot open"),
            (Answer(400, b"<html>"), KeyNotAvailable, "does not open"),
        ],
    )
    def test_refusals_are_told_apart(self, answer: Answer, kind: type[DonjonError], said: str) -> None:
        key = self.connect(self.make_recipient("one"))
        sealed = key.seal(bytes(32), INFO)
        self.front.next_answers = [answer]
        with pytest.raises(DonjonError, match=said) as caught:
            key.open(sealed, INFO)
        assert type(caught.value) is kind

    @pytest.mark.parametrize(
        "changed",
        ["ciphertextCrc32c", "verifiedPlaintextCrc32c", "verifiedAdditionalAuthenticatedDataCrc32c"],
    )
    def test_a_seal_that_was_damaged_on_the_way_is_asked_for_again(self, changed: str) -> None:
        key = self.connect(self.make_recipient("one"))
        self.front.damage = changed
        with pytest.raises(KeyServiceUnavailable, match="damaged"):
            key.seal(bytes(32), INFO)
        assert key.open(RetryingKey(key).seal(bytes(32), INFO), INFO) == bytes(32)

    def test_a_secret_that_was_damaged_on_the_way_is_asked_for_again(self) -> None:
        key = RetryingKey(self.connect(self.make_recipient("one")), sleep=lambda _: None)
        sealed = key.seal(bytes(32), INFO)
        self.front.damage = "plaintextCrc32c"
        assert key.open(sealed, INFO) == bytes(32)
        assert self.front.damage == ""

    def test_a_service_that_is_not_there_may_be_tried_again(self) -> None:
        with gcp_kms() as (front, client):
            recipient = service_recipient(GcpKey(front.make_key()), "one", 1)
        with pytest.raises(KeyServiceUnavailable):
            GcpKmsKey(recipient, lambda: client).seal(bytes(32), INFO)

    @pytest.mark.parametrize(
        "name", ["", "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1", "k"]
    )
    def test_odd_addresses_are_refused(self, name: str) -> None:
        with pytest.raises(UsageError):
            GcpKey.parse(name)


class TransitTests(KeyServiceTests):
    """As somebody who may seal with all keys and open with all of them, and do nothing else."""

    settings: ClassVar[dict[str, Any]] = {}

    @pytest.fixture(autouse=True)
    def _server(self, bao: OpenBao) -> None:
        self.bao = bao
        self.token = bao.make_token({"transit/encrypt/*": ["update"], "transit/decrypt/*": ["update"]})

    def make_recipient(self, name: str) -> Recipient:
        key = TransitKey(self.bao.address, "transit", self.bao.make_key(**self.settings))
        return service_recipient(key, name, 1)

    def connect(self, recipient: Recipient) -> KeyService:
        return OpenBaoKey(recipient, self.environment(self.token))

    def environment(self, token: str) -> dict[str, str]:
        return {"VAULT_ADDR": self.bao.address, "VAULT_TOKEN": token}

    def test_old_versions_open_until_they_may_no_more(self) -> None:
        recipient = self.make_recipient("one")
        key, name = self.connect(recipient), TransitKey.of(recipient).key
        old = key.seal(bytes(32), INFO)
        self.bao.ask("POST", f"transit/keys/{name}/rotate")
        new = key.seal(bytes(32), INFO)
        assert (old.split(b":")[1], new.split(b":")[1]) == (b"v1", b"v2")
        assert key.open(old, INFO) == key.open(new, INFO) == bytes(32)
        self.bao.ask("POST", f"transit/keys/{name}/config", {"min_decryption_version": 2})
        with pytest.raises(KeyNotAvailable, match="version"):
            key.open(old, INFO)
        assert key.open(new, INFO) == bytes(32)

    def test_a_key_that_is_gone_is_not_made_again(self) -> None:
        recipient = self.make_recipient("one")
        key, name = self.connect(recipient), TransitKey.of(recipient).key
        sealed = key.seal(bytes(32), INFO)
        self.bao.ask("POST", f"transit/keys/{name}/config", {"deletion_allowed": True})
        self.bao.ask("DELETE", f"transit/keys/{name}")
        with pytest.raises(KeyNotAvailable, match="no such key"):
            key.open(sealed, INFO)
        with pytest.raises(PermissionMissing, match=f"update transit/encrypt/{name}"):
            key.seal(bytes(32), INFO)

    def test_sealing_and_opening_are_rights_apart(self) -> None:
        recipient = self.make_recipient("one")
        name = TransitKey.of(recipient).key
        writer = self.bao.make_token({f"transit/encrypt/{name}": ["update"]})
        reader = self.bao.make_token({f"transit/decrypt/{name}": ["update"]})
        sealed = OpenBaoKey(recipient, self.environment(writer)).seal(bytes(32), INFO)
        assert OpenBaoKey(recipient, self.environment(reader)).open(sealed, INFO) == bytes(32)
        with pytest.raises(PermissionMissing, match=f"update transit/decrypt/{name}"):
            OpenBaoKey(recipient, self.environment(writer)).open(sealed, INFO)
        with pytest.raises(PermissionMissing, match=f"update transit/encrypt/{name}"):
            OpenBaoKey(recipient, self.environment(reader)).seal(bytes(32), INFO)


class TestTransit(TransitTests):
    settings: ClassVar[dict[str, Any]] = {"type": "aes256-gcm96"}


class TestDerivedTransit(TransitTests):
    settings: ClassVar[dict[str, Any]] = {"type": "chacha20-poly1305", "derived": True}


class Pkcs11Tests(KeyServiceTests):
    """Keys on a token of SoftHSM2."""

    @pytest.fixture(autouse=True)
    def _server(self, hsm: SoftHsm) -> None:
        self.hsm = hsm
        self.token = hsm.tokens[0]

    @abstractmethod
    def make_key(self, session: pkcs11.Session, label: str) -> None: ...

    def make_recipient(self, name: str) -> Recipient:
        label = f"k{secrets.token_hex(8)}"
        with opened(self.hsm, self.token) as session:
            self.make_key(session, label)
        return service_recipient(TokenAddress(self.token, label), name, 1)

    def connect(self, recipient: Recipient) -> KeyService:
        return Pkcs11Key(recipient, self.hsm.environment)


class TestPkcs11Aes(Pkcs11Tests):
    def make_key(self, session: pkcs11.Session, label: str, value: bytes | None = None) -> None:
        make_aes(session, label)

    def test_the_bytes_are_those_of_rfc_5649(self) -> None:
        label, value = f"k{secrets.token_hex(8)}", secrets.token_bytes(32)
        with opened(self.hsm, self.token) as session:
            make_aes(session, label, value)
        key = self.connect(service_recipient(TokenAddress(self.token, label), "one", 1))
        sealed = key.seal(bytes(range(32)), INFO)
        assert sealed[0] == 1
        assert unbound(aes_key_unwrap_with_padding(value, sealed[1:]), INFO, "") == bytes(range(32))

    def test_a_key_that_may_not_wrap_is_named(self) -> None:
        label = f"k{secrets.token_hex(8)}"
        with opened(self.hsm, self.token) as session:
            make_aes(session, label, None, wrap=False)
        key = self.connect(service_recipient(TokenAddress(self.token, label), "one", 1))
        with pytest.raises(PermissionMissing, match="CKA_WRAP"):
            key.seal(bytes(32), INFO)


class TestPkcs11Rsa(Pkcs11Tests):
    """Its keys take long to make, so that tests share them."""

    made: ClassVar[dict[str, Recipient]] = {}

    def make_recipient(self, name: str) -> Recipient:
        if name not in self.made:
            self.made[name] = super().make_recipient(name)
        return self.made[name]

    def make_key(self, session: pkcs11.Session, label: str) -> None:
        make_rsa(session, label)

    def test_a_writer_needs_no_pin_and_opens_nothing(self) -> None:
        recipient = self.make_recipient("one")
        script = """if True:
            import os, sys
            from donjon.core.errors import KeyNotAvailable
            from donjon.keys.address import service_recipient
            from donjon.keys.pkcs11 import Pkcs11Key, TokenAddress
            key = Pkcs11Key(service_recipient(TokenAddress(*sys.argv[1:3]), "one", 1), os.environ)
            info = bytes.fromhex(sys.argv[3])
            sealed = key.seal(bytes(32), info)
            try:
                key.open(sealed, info)
            except KeyNotAvailable as error:
                assert "DONJON_PKCS11_PIN_FILE" in error.hint
                print(sealed.hex())
        """
        address = TokenAddress.of(recipient)
        done = subprocess.run(
            [sys.executable, "-c", script, address.token, address.label, INFO.hex()],
            env=os.environ | self.hsm.public_environment,
            capture_output=True,
            check=True,
        )
        assert self.connect(recipient).open(bytes.fromhex(done.stdout.decode()), INFO) == bytes(32)


@functools.cache
def _client(user: User, endpoint: str, region: str = "us-east-1") -> Any:
    return user.client("kms", endpoint, region)
