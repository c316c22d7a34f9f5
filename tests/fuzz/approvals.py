"""A vault with approvers and certificates, from the fixed examples."""

from __future__ import annotations

import functools
import json
from pathlib import Path


@functools.cache
def approvals() -> dict[str, bytes]:
    """A vault with approvers and certificates, by name."""
    file = Path(__file__).parents[1] / "vectors" / "approvals.json"
    rows = json.loads(file.read_text(encoding="ascii"))["objects"]
    return {row["name"]: bytes.fromhex(row["object"]) for row in rows}
