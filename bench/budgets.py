"""The budgets that the design sets, each as a function from the measurements to met or not."""

from __future__ import annotations

from dataclasses import dataclass

from bench.results import PHASES, VERSION, Results, Summary

RIVALS = ("restic", "borg")
_PEAK_LIMIT_BYTES = 250e6
#: "The same" peak memory at ten times the files, given how much two runs of one program differ.
_PEAK_TOLERANCE = 1.1
_VERSION_LIMIT_S = 0.15
#: (corpus, phase, how many times faster than the faster rival)
_SPEED = (
    ("big", "backup", 2.5),
    ("small", "backup", 3.0),
    ("small", "unchanged", 5.0),
    ("big", "restore", 2.0),
    ("small", "restore", 2.0),
    ("big", "verify", 2.0),
    ("small", "verify", 2.0),
)
_CPU_SHARE = 0.6
_WORK = {
    "backup": "first backup",
    "unchanged": "backup, nothing changed",
    "restore": "restore",
    "verify": "verify all data",
}


@dataclass(frozen=True)
class Verdict:
    """One budget: what it asks, what was seen, and whether that meets it (None: cannot be told)."""

    asked: str
    seen: str
    met: bool | None


def judge(results: Results) -> list[Verdict]:
    """All budgets in the order of the design."""
    verdicts = [_speed(results, corpus, phase, factor) for corpus, phase, factor in _SPEED]
    verdicts.insert(1, _cpu(results))
    verdicts += [_memory(results), _memory_growth(results), _size(results, "big"), _size(results, "small")]
    return [*verdicts, _start(results)]


def faster_rival(results: Results, corpus: str, phase: str) -> tuple[str, Summary] | None:
    """The rival that took less time, or None unless all rivals were measured."""
    found = {rival: results.summary(rival, corpus, phase) for rival in RIVALS}
    known = {rival: summary for rival, summary in found.items() if summary}
    if len(known) < len(RIVALS):
        return None
    name = min(known, key=lambda rival: known[rival].wall_s)
    return name, known[name]


def work(corpus: str, phase: str) -> str:
    """A step in words."""
    return f"{corpus}: {_WORK[phase]}"


def _unknown(asked: str) -> Verdict:
    return Verdict(asked, "not measured", None)


def _speed(results: Results, corpus: str, phase: str, factor: float) -> Verdict:
    asked = f"{work(corpus, phase)}, {factor:g} times faster than the faster rival"
    own, rival = results.summary("donjon", corpus, phase), faster_rival(results, corpus, phase)
    if not own or not rival:
        return _unknown(asked)
    ratio = rival[1].wall_s / own.wall_s
    return Verdict(asked, f"{ratio:.2f} times ({rival[0]})", ratio >= factor)


def _cpu(results: Results) -> Verdict:
    asked = f"{work('big', 'backup')}, at most {_CPU_SHARE} of the faster rival's CPU seconds"
    own, rival = results.summary("donjon", "big", "backup"), faster_rival(results, "big", "backup")
    if not own or not rival:
        return _unknown(asked)
    share = own.cpu_s / rival[1].cpu_s
    return Verdict(asked, f"{share:.2f} ({rival[0]})", share <= _CPU_SHARE)


def _peak(results: Results, corpora: tuple[str, ...], phases: tuple[str, ...] = PHASES) -> float | None:
    found = [results.summary("donjon", corpus, phase) for corpus in corpora for phase in phases]
    peaks = [summary.peak_bytes for summary in found if summary]
    return max(peaks) if len(peaks) == len(found) else None


def _memory(results: Results) -> Verdict:
    asked = f"peak memory of every step at most {_PEAK_LIMIT_BYTES / 1e6:.0f} MB"
    peak = _peak(results, ("big", "small"))
    if peak is None:
        return _unknown(asked)
    return Verdict(asked, f"{peak / 1e6:.0f} MB", peak <= _PEAK_LIMIT_BYTES)


def _memory_growth(results: Results) -> Verdict:
    limit = f"{_PEAK_LIMIT_BYTES / 1e6:.0f} MB"
    more = f"{_PEAK_TOLERANCE - 1:.0%}"
    asked = f"ten times the files: at most {limit}, and at most {more} more than the small files"
    few, many = _peak(results, ("small",)), _peak(results, ("many",))
    if few is None or many is None:
        return _unknown(asked)
    met = many <= _PEAK_LIMIT_BYTES and many <= few * _PEAK_TOLERANCE
    return Verdict(asked, f"{many / 1e6:.0f} MB after {few / 1e6:.0f} MB", met)


def _size(results: Results, corpus: str) -> Verdict:
    asked = f"{corpus}: stored size no larger than the smaller rival's"
    own = results.summary("donjon", corpus, "backup")
    rivals = [results.summary(rival, corpus, "backup") for rival in RIVALS]
    sizes = [summary.stored_bytes for summary in rivals if summary]
    if not own or len(sizes) < len(RIVALS):
        return _unknown(asked)
    seen = f"{own.stored_bytes / 1e6:.0f} MB against {min(sizes) / 1e6:.0f} MB"
    return Verdict(asked, seen, own.stored_bytes <= min(sizes))


def _start(results: Results) -> Verdict:
    asked = f"`--version` in at most {_VERSION_LIMIT_S} s"
    own = results.summary("donjon", "", VERSION)
    return Verdict(asked, f"{own.wall_s:.3f} s", own.wall_s <= _VERSION_LIMIT_S) if own else _unknown(asked)
