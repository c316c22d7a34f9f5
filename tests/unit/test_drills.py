"""How trials are judged, and that the attacks on a scratch vault fail if Donjon does not hold."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from donjon.core.errors import CredentialsRejected, UsageError
from donjon.drills import kms, s3, scratch
from donjon.drills.base import (
    ADMINISTRATOR,
    READING,
    Answer,
    Attack,
    Report,
    Role,
    Trial,
    skipped,
)
from donjon.drills.s3_field import Field, ask
from donjon.drills.s3_objects import OBJECT_ATTACKS
from donjon.format.evidence import Outcome, passed
from donjon.plan.retention import Decision

NO, YES, WHAT = Answer("403 AccessDenied"), Answer("accepted", accepted=True), Answer("501 X", is_known=False)
HIDE = Attack("hide", "hide", allowed=READING - ADMINISTRATOR, harmless=ADMINISTRATOR)


@pytest.mark.parametrize(
    ("role", "answers", "lost", "seen", "outcome"),
    [
        (Role.OUTSIDER, [NO, NO], (), "refused", "passed"),
        (Role.OUTSIDER, [NO, YES], (), "went through", "failed"),
        (Role.OUTSIDER, [NO], None, "refused", "passed"),
        (Role.OUTSIDER, [YES], None, "went through", "failed"),
        (Role.READER, [YES], (), "allowed", "passed"),
        (Role.READER, [YES], ("it is gone",), "went through: it is gone", "failed"),
        (Role.ADMINISTRATOR, [YES], (), "accepted, nothing lost", "passed"),
        (Role.ADMINISTRATOR, [YES], None, "accepted, and nobody here sees the loss", "skipped"),
        (Role.ADMINISTRATOR, [NO], ("it is gone",), "went through: it is gone", "failed"),
        (Role.OUTSIDER, [WHAT], (), "no answer that says anything", "skipped"),
        (Role.OUTSIDER, [WHAT, NO], (), "refused", "passed"),
        (Role.OUTSIDER, [], (), "no answer that says anything", "skipped"),
    ],
)
def test_trials(
    role: Role, answers: list[Answer], lost: tuple[str, ...] | None, seen: str, outcome: str
) -> None:
    row = Trial(HIDE, role, tuple(answers), lost).row()
    assert (row.seen, row.outcome.value) == (seen, outcome)


def test_answers_are_told_with_how_often_they_came() -> None:
    row = Trial(HIDE, Role.OUTSIDER, (NO, YES, NO)).row()
    assert row.answer == "2 x 403 AccessDenied, accepted"


def test_what_is_known_fails_no_drill_and_hides_nothing() -> None:
    report = Report()
    bad = Trial(HIDE, Role.OUTSIDER, (YES,)).row()
    report.add("hide", bad, frozenset({"hide"}))
    assert (report.failed, report.rows[0].outcome, report.rows[0].seen) == (
        [],
        Outcome.SKIPPED,
        "known: went through",
    )
    assert not passed(tuple(report.rows))  # nothing was shown
    report.add("hide", bad)
    assert report.failed == ["hide"]
    assert skipped(HIDE, Role.READER, "why").answer == "why"


def test_every_attack_has_a_name_of_its_own() -> None:
    named = [attack.name for attack, _ in (*s3.ATTACKS, *kms.ATTACKS)] + list(scratch.ATTACKS)
    assert len(set(named)) == len(named)
    whats = [attack.what for attack, _ in (*s3.ATTACKS, *kms.ATTACKS)]
    assert len(set(whats)) == len(whats)


# --- what AWS alone has ------------------------------------------------------------------------------


class _Sdk:
    """A client that answers every request with one code."""

    def __init__(self, status: int, code: str) -> None:
        self._status, self._code = status, code

    def __getattr__(self, name: str) -> Any:
        from botocore.exceptions import ClientError

        def refuse(**_: Any) -> None:
            response: Any = {
                "Error": {"Code": self._code},
                "ResponseMetadata": {"HTTPStatusCode": self._status},
            }
            raise ClientError(response, name)

        return refuse


@pytest.mark.parametrize(
    ("status", "code", "accepted"),
    [(403, "AccessDenied", False), (400, "InvalidArgument", True), (404, "KMS.NotFoundException", True)],
)
def test_whoever_learns_that_the_key_does_not_exist_could_have_swapped_it(
    status: int, code: str, accepted: bool
) -> None:
    from donjon.drills.s3_field import Held

    place = Field(_Sdk(status, code), _Sdk(403, "AccessDenied"), "b", "", lambda: None, lambda: 0)  # type: ignore[arg-type,return-value]
    place.targets = [Held("c", "c", "v1", b"", "COMPLIANCE", 9)]
    (way,) = [way for attack, way in OBJECT_ATTACKS if attack.name == "update-encryption"]
    assert [answer.accepted for answer in way(place)] == [accepted]


@pytest.mark.parametrize(
    ("status", "code", "is_known"),
    [
        (403, "AccessDenied", True),
        (409, "BucketNotEmpty", True),
        (301, "PermanentRedirect", False),
        (404, "NoSuchBucket", False),
        (501, "NotImplemented", False),
        (500, "InternalError", False),
    ],
)
def test_what_is_no_answer_to_the_attack_is_no_refusal(
    status: int, code: str, is_known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("donjon.drills.s3_field.time.sleep", lambda _: None)
    answer, _ = ask(_Sdk(status, code).delete_object)
    assert (answer.accepted, answer.is_known) == (False, is_known)


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "ExpiredToken", "SignatureDoesNotMatch"])
def test_who_is_not_known_ends_the_drill(code: str) -> None:
    with pytest.raises(CredentialsRejected):
        ask(_Sdk(403, code).delete_object)


# --- the scratch vault ------------------------------------------------------------------------------


def _failed() -> list[str]:
    report = Report()
    assert len(list(scratch.attack_scratch(report))) == len(scratch.ATTACKS)
    return report.failed


def test_this_donjon_holds() -> None:
    assert _failed() == []


def test_a_donjon_that_counts_all_points_together_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    def newest(policy: object, candidates: Iterator[Any], now: int) -> list[Decision]:
        listed = sorted(candidates, key=lambda candidate: candidate.time)
        return [Decision(candidate, ("last",) if candidate in listed[-3:] else ()) for candidate in listed]

    monkeypatch.setattr(scratch, "decide", newest)
    assert _failed() == ["future-point", "flood"]


def test_a_donjon_that_compares_no_checkpoints_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "judge", lambda *_, **__: [])
    assert _failed() == ["rollback"]


def test_a_donjon_that_believes_every_signature_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("donjon.repository.vault.Vault.verify_by_writer", lambda *_: 0)
    assert _failed() == ["forge-point"]


def test_a_donjon_whose_backups_open_to_all_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "open_point", lambda *_: None)
    assert _failed() == ["open-backup"]


def test_names_that_no_attack_has_are_refused() -> None:
    from donjon.app.drills.attack import _check_names, attack_names

    _check_names(frozenset(attack_names()))
    with pytest.raises(UsageError, match="there is no attack 'x'"):
        _check_names(frozenset({"x", "hold"}))
