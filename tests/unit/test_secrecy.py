"""What holds a secret does not show it, and texts that quote one lose it."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator

import msgspec
import pytest

import donjon
from donjon.core.secrecy import redacted

_SECRET = re.compile(r"(^|_)(secret|seed|private|passphrase|password|token|qr)(_|$)|_key$|^kit_text$")
#: Named like a secret, and none: a public key, a path, ciphertext, or an object that shows nothing itself.
_HARMLESS = {
    "public_key", "passphrase_file", "sealed_secret", "signing_key", "access_key", "private_network",
    "at_key",  # whether something is about a key of the plan file
    "kms_key",  # the name of a key at its service
    "on_key", "token",  # the name of a PKCS #11 token
}  # fmt: skip


def _classes() -> Iterator[type]:
    for module in pkgutil.walk_packages(donjon.__path__, "donjon."):
        # Alembic alone can run env.py.
        if ".testing" in module.name or module.name.endswith(("__main__", ".migrations.env")):
            continue
        loaded = importlib.import_module(module.name)
        for value in vars(loaded).values():
            if inspect.isclass(value) and value.__module__ == module.name:
                yield value


def _shown(cls: type) -> list[str]:
    """The fields that the ``repr`` of a dataclass or struct shows, None of those that write their own."""
    if dataclasses.is_dataclass(cls):
        generated = "__create_fn__" in cls.__repr__.__qualname__ or "recursive_repr" in str(cls.__repr__)
        own = "__repr__" in vars(cls) and not generated and "<locals>" not in cls.__repr__.__qualname__
        own = own and inspect.getsourcefile(cls.__repr__) == inspect.getsourcefile(cls)
        return [] if own else [field.name for field in dataclasses.fields(cls) if field.repr]
    if issubclass(cls, msgspec.Struct) and "__repr__" not in vars(cls):
        return list(cls.__struct_fields__)
    return []


def test_no_repr_shows_a_secret() -> None:
    classes = list(_classes())
    shown = [f"{cls.__module__}.{cls.__name__}.{name}" for cls in classes for name in _shown(cls)]
    assert len(shown) > 200  # it does look
    guilty = [name for name in shown if _SECRET.search(name.rpartition(".")[2])]
    assert [name for name in guilty if name.rpartition(".")[2] not in _HARMLESS] == []


def test_the_search_for_secrets_in_a_repr_finds_one() -> None:
    @dataclasses.dataclass
    class Careless:
        passphrase: str

    assert _shown(Careless) == ["passphrase"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("https://a.blob.core.windows.net/c?sv=1&sig=HUSH%2B&se=2 failed", "&se=2 failed"),
        ("sftp://user:HUSH@host/path", "sftp://user:***@host/path"),
        ("AccountName=a;AccountKey=HUSH==;EndpointSuffix=x", ";EndpointSuffix=x"),
        ("X-Amz-Signature=HUSH&X-Amz-Date=1", "X-Amz-Date=1"),
        ("Authorization: Bearer HUSH.HUSH.HUSH rest", "rest"),
        ("authorization: Basic HUSHHUSHHUSH== rest", "rest"),
        ('{"client_secret": "HUSH", "grant": 1}', '"grant": 1'),
        ("X-Vault-Token: HUSH", "X-Vault-Token"),
        ("invalid token hvs.HUSHHUSHHUSHHUSHHUSHHUSHHUSH at", "invalid token"),
        ("-----BEGIN PRIVATE KEY-----\nHUSH\nHUSH\n-----END PRIVATE KEY-----\nafter", "after"),
        ("-----BEGIN RSA PRIVATE KEY-----\nHUSH", ""),
        ("aws_secret_access_key = HUSH", "aws_secret_access_key"),
    ],
)
def test_secrets_are_taken_out(text: str, kept: str) -> None:
    shown = redacted(text)
    assert "HUSH" not in shown
    assert kept in shown


@pytest.mark.parametrize(
    "text",
    [
        "sftp://user@host:22/path: no answer",
        "s3://bucket/a?endpoint=http://127.0.0.1:9000: cannot read it",
        "the passphrase opens none of the 2 passphrase keys",
        "office: a basic question of design",
        "mail a@b.c:22",
        "sessions/0123456789abcdef0123456789abcdef/00000001: is missing",
    ],
)
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert redacted(text) == text


def test_a_protected_process_can_leave_no_core() -> None:
    code = """
import ctypes, resource
from donjon.cli.process import protect_memory
protect_memory()
print(ctypes.CDLL(None).prctl(3), resource.getrlimit(resource.RLIMIT_CORE))"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "0 (0, 0)\n"
