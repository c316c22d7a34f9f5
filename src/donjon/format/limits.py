"""Checks that payloads make when they are decoded. See ``docs/format.md``, "Limits".

They raise ``ValueError``, which msgspec turns into the error of a payload that cannot be read.
"""

from __future__ import annotations

from typing import Final

from donjon.codec.digest import ID_BYTES

#: Sessions, sequences and keyring records end here: their names have eight digits.
MAX_NUMBER: Final = 99_999_999
MAX_PART: Final = 9_999
#: Years 1 to 9999, which is what calendars of programming languages can show.
EARLIEST: Final = -62_135_596_800
LATEST: Final = 253_402_300_799
MAX_DURATION_S: Final = (1 << 32) - 1
#: A seal of any kind; those of HPKE have 1168 bytes.
MAX_SEAL_BYTES: Final = 2048


def require(condition: bool, field: str) -> None:
    """Raises ``ValueError`` that names the field."""
    if not condition:
        msg = f"impossible {field}"
        raise ValueError(msg)


def check_id(value: bytes) -> None:
    """An id of a writer or recipient."""
    require(len(value) == ID_BYTES, "id")


def check_number(value: int) -> None:
    """A number of a session, a manifest or a keyring record."""
    require(1 <= value <= MAX_NUMBER, "number")


def check_time(value: int) -> None:
    """A time in Unix seconds."""
    require(EARLIEST <= value <= LATEST, "time")


def check_seal(value: bytes) -> None:
    """A secret sealed for a recipient of any kind; only its kind knows more of it."""
    require(1 <= len(value) <= MAX_SEAL_BYTES, "seal")
