"""What custody costs, and how long planning takes. ``python -m bench.custody`` writes docs/custody-costs.md.

Money is simulated with the planner itself, day by day; planning is measured on a vault of 100 million chunks
in 1.6 million packs, and 10,000 points.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from bench import simulated
from donjon.core.clock import SECONDS_PER_DAY
from donjon.core.events import Silent
from donjon.core.units import MIB
from donjon.custody.extension import plan_extension
from donjon.custody.inventory import Inventory, take_inventory
from donjon.custody.reaping import plan_reaping
from donjon.custody.standing import find_standings
from donjon.format.epoch import Epoch
from donjon.format.manifest import Manifest, Use, bitmap
from donjon.plan.prices import PRICES
from donjon.plan.retention import Policy
from donjon.repository.cache import Cache
from donjon.repository.epochs import LockEnds
from donjon.repository.keyring import Keyring, Writer
from donjon.repository.packbits import PackBits
from donjon.repository.points import Point, list_points
from donjon.stores.base import ObjectInfo

_ROOT = Path(__file__).resolve().parent.parent
_WORK = _ROOT / ".bench" / "custody"
_DOCUMENT = _ROOT / "docs" / "custody-costs.md"

_PACK_BYTES = 56 * MIB
_PACKS_A_TIB = (1 << 40) // _PACK_BYTES + 1
_SIMULATED_PACKS = 1000
_DAYS = 720
_NAMES_A_LISTING = 1000
_DAYS_A_MONTH = 365.25 / 12
_LOCK_DAYS = 90
_EPOCH_DAYS = (1, 5, 30)
_SIZES_TIB = (1, 10, 100)


# --- money ----------------------------------------------------------------------------------------


def simulate(epoch_s: int) -> float:
    """How often a month a live pack is locked anew: the planner is run daily, and its plans carried out."""
    writer, ends = bytes(16), LockEnds()
    uses = (Use(writer, 1, bitmap(set(range(_SIMULATED_PACKS)))),)
    manifest = Manifest(writer, 1, bytes(32), 1, 0, 0, uses, b"")
    point = Point(bytes(32), "manifests/point", manifest, simulated.START, simulated.START)
    extended = 0
    lock_s = _LOCK_DAYS * SECONDS_PER_DAY
    for day in range(_DAYS):
        now = simulated.START + day * SECONDS_PER_DAY
        inventory = Inventory(now, lock_s, 2 * SECONDS_PER_DAY, lists_locks=False, ends=ends)
        inventory.others[point.name] = ObjectInfo(point.name, 2000, simulated.START)
        for number in range(_SIMULATED_PACKS):
            row = inventory.packs.claim(number.to_bytes(32, "big"), (writer, 1, number))
            inventory.packs.seen(row, ObjectInfo("", _PACK_BYTES, simulated.START))
        standings = find_standings([point], inventory, _keyring(writer), Policy())
        plan = plan_extension(inventory, standings, epoch_s)
        if plan.requests:
            done = PackBits()
            for number in plan.packs:
                done.add((writer, 1, number))
            others = [standing.point.name for standing in plan.manifests]
            ends.add(Epoch(writer, 1, now, plan.until, done.uses(), tuple(others)))
        extended += len(plan.packs)
    return extended / _SIMULATED_PACKS / (_DAYS / _DAYS_A_MONTH)


def _keyring(writer: bytes) -> Keyring:
    keyring = simulated.open_keyring()
    keyring.writers[writer] = Writer(writer, bytes(32), b"", 0)
    return keyring


# --- planning -------------------------------------------------------------------------------------


_POLICY = Policy(daily=30, monthly=12)
_TODAY = simulated.START + 505 * SECONDS_PER_DAY


def prepare() -> None:
    """Make the vault, and do what a custodian did before today: read index objects, extend locks."""
    if not (_WORK / "packs").exists():
        print("making up a vault of 100 TiB", flush=True)
        simulated.make(_WORK)
    if not (_WORK / "epoch").exists():
        vault = simulated.open_simulated(_WORK, _TODAY - 8 * SECONDS_PER_DAY)
        points = list_points(vault)
        inventory = take_inventory(vault, Cache(_WORK / "cache"), Silent())
        standings = find_standings(points, inventory, vault.keyring, _POLICY)
        plan = plan_extension(inventory, standings, 6 * SECONDS_PER_DAY)
        packs = PackBits()
        for number in plan.packs:
            for key in inventory.packs.keys(number):
                packs.add(key)
        simulated.tell(_WORK, vault, plan.until, packs)


def measure_planning() -> None:
    """Plan an extension and a reaping of the large vault, and print what that took, as JSON."""
    vault = simulated.open_simulated(_WORK, _TODAY)
    cache = Cache(_WORK / "cache")
    started = time.monotonic()
    points = list_points(vault)
    inventory = take_inventory(vault, cache, Silent())
    looked = time.monotonic()
    standings = find_standings(points, inventory, vault.keyring, _POLICY)
    extension = plan_extension(inventory, standings, 6 * SECONDS_PER_DAY)
    planned = time.monotonic()
    reaping = plan_reaping(inventory, standings)
    done = time.monotonic()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    result = {
        "points": len(points),
        "packs": len(inventory.packs),
        "live": extension.live,
        "due": extension.requests,
        "doomed": len(reaping.doomed),
        "waiting": reaping.waiting,
        "look_s": looked - started,
        "extension_s": planned - looked,
        "reaping_s": done - planned,
        "peak_bytes": usage.ru_maxrss * 1024,
    }
    print(json.dumps(result))


def main() -> None:
    """All of it."""
    if sys.argv[1:] == ["plan"]:
        measure_planning()
        return
    prepare()
    command = [sys.executable, "-m", "bench.custody", "plan"]
    done = subprocess.run(command, cwd=_ROOT, check=True, stdout=subprocess.PIPE)
    planning = json.loads(done.stdout)
    print(json.dumps(planning, indent=1), flush=True)
    months = {days: simulate(days * SECONDS_PER_DAY) for days in _EPOCH_DAYS}
    _DOCUMENT.write_text(_document(planning, months), encoding="utf-8")
    print(f"wrote {_DOCUMENT}")


def _document(planning: dict[str, float], months: dict[int, float]) -> str:
    """``months`` tells for each epoch in days how often a month a pack is locked anew."""
    prices = PRICES["s3"]
    costs = []
    for days, times in months.items():
        for size_tib in _SIZES_TIB:
            extensions = round(times * _PACKS_A_TIB * size_tib)
            listings = round(_DAYS_A_MONTH * -(-_PACKS_A_TIB * size_tib // _NAMES_A_LISTING))
            dollars = prices.cost(extensions + listings)
            costs.append(f"| {size_tib} TiB | {days} d | {extensions:,} | {listings:,} | ${dollars:,.2f} |")
    total_s = planning["look_s"] + planning["extension_s"] + planning["reaping_s"]
    steps = {
        f"reading manifests, listing {planning['packs']:,} packs": f"{planning['look_s']:.1f} s",
        f"planning the extension of {planning['live']:,} live points: {planning['due']:,} objects due": (
            f"{planning['extension_s']:.1f} s"
        ),
        f"planning the reaping: {planning['doomed']:,} objects may go, {planning['waiting']:,} wait": (
            f"{planning['reaping_s']:.1f} s"
        ),
        "all of it (to be at most 60 s)": f"**{total_s:.1f} s**",
        "peak memory (to be at most 1024 MiB)": f"**{planning['peak_bytes'] / MIB:.0f} MiB**",
    }
    rows = "\n".join(f"| {what} | {measured} |" for what, measured in steps.items())
    return f"""# What custody costs

Made by `make simulate`; do not edit. Prices: {prices.source}, {prices.date}, without discounts.

## Requests and money

Custody looks daily at a vault whose lock is {_LOCK_DAYS} days and whose packs of
{_PACK_BYTES // MIB} MiB are all live. The planner itself is run for {_DAYS} days over {_SIMULATED_PACKS:,}
packs, and what it says is multiplied. One request locks a pack anew; one lists {_NAMES_A_LISTING} names,
and each look lists all. A month has 30.4 days.

| live | epoch | locks extended a month | listings a month | dollars a month |
|---|---|---|---|---|
{chr(10).join(costs)}

What hangs beside the packs (sessions, index objects, manifests) is a few objects a backup. The locks
themselves cost nothing; what is kept costs storage. With an epoch of a week or more it is enough to look
weekly.

## Planning a very large vault

{planning["points"]:,} points of {simulated.WRITERS} writers and {planning["packs"]:,} packs of 64 MiB:
100 TiB, or 100 million chunks of 1 MiB. Manifests, sessions, index objects and an epoch object are real and
signed; packs are there in name only. Listings tell no locks, as those of S3. Policy: {_POLICY}. The rows of
index objects were read before; a custodian on a new machine reads the index objects once.

| work | measured |
|---|---|
{rows}
"""


if __name__ == "__main__":
    main()
