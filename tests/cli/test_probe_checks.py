"""The verdicts, from observations that are written down here."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from trio_tlsdown.cli.probe._checks import (
    CHECKS,
    Finding,
    Verdict,
    judge,
    milliseconds,
    worst,
)
from trio_tlsdown.cli.probe._observe import Ending, Experiment, Observation
from trio_tlsdown.cli.probe._remedies import IN_GENERAL, REMEDIES, remedy
from trio_tlsdown.cli.probe._resembles import resembles
from trio_tlsdown.cli.probe._results import HostResult
from trio_tlsdown.cli.probe._targets import Target
from trio_tlsdown.cli.probe._witness import Behind, TransportEnd, what_is_behind

PASS, WARN, FAIL, NA = Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.NOT_APPLICABLE
SOFTWARE = {"nginx", "HAProxy", "Apache", "Go", "Java", "Node.js", ".NET"}


def seen(experiment: Experiment, **facts: Any) -> dict[Experiment, Observation]:
    return {experiment: Observation(experiment=experiment, seconds=1.0, **facts)}


def idle(**facts: Any) -> dict[Experiment, Observation]:
    return seen(Experiment.IDLE, **facts)


CN: dict[str, Any] = {"ending": Ending.CLOSE_NOTIFY, "tcp": TransportEnd.FIN}


@pytest.mark.parametrize(
    ("facts", "in_12", "in_13", "words"),
    [
        ({"ours": 0.2, "theirs": 0.3, "ended": 0.3, **CN}, PASS, PASS, "then FIN"),
        ({"ours": 0.2}, FAIL, WARN, "TCP stays open"),
        ({"ours": 0.2, "ending": Ending.FIN, "ended": 0.3}, FAIL, FAIL, "FIN after"),
        ({"ours": 0.2, "ending": Ending.RESET, "ended": 0.3}, FAIL, FAIL, "TCP reset"),
        (
            {"ours": 0.2, "ending": Ending.FLOOD, "ended": 0.3, "data_after": 9},
            *(FAIL, WARN, "data without end"),
        ),
        (
            {"ours": 0.2, "ending": Ending.ALERT, "ended": 0.3, "alert": "X"},
            *(FAIL, WARN, "fatal alert after 100.0 ms: X"),
        ),
        ({"ending": Ending.FIN, "ended": 0.1}, NA, NA, "it ended first"),
        ({"ending": Ending.FIN, "ended": 0.1, "mid_record": True}, NA, NA, "inside"),
        (
            {"ours": 0.2, "ending": Ending.BAD_RECORD, "ended": 0.3, "alert": "X"},
            *(FAIL, FAIL, "cannot be read after 100.0 ms: X"),
        ),
    ],
)
def test_an_answer_is_owed_in_tls_12_and_close_notify_before_fin_in_both(
    facts: dict[str, Any], in_12: Verdict, in_13: Verdict, words: str
) -> None:
    check = "answers-close-notify"
    for version, verdict in (("1.2", in_12), ("1.3", in_13)):
        finding = judge(version, idle(**facts))[check]  # type: ignore[arg-type]
        assert finding.verdict is verdict
        assert words in finding.seen


def test_a_late_answer_is_told_and_warned_about_in_tls_12_only() -> None:
    late = idle(ours=0.2, theirs=3.4, ended=3.4, **CN)
    assert judge("1.2", late)["answers-promptly"].verdict is WARN
    assert judge("1.3", late)["answers-promptly"].verdict is PASS
    assert judge("1.3", late)["answers-promptly"].seen == "3.2 s"


def test_a_half_close_that_is_not_answered_is_a_warning_in_tls_13_only() -> None:
    facts = idle(ours=0.2) | seen(
        Experiment.HALF_CLOSE, ours=0.1, ended=0.2, theirs=0.2, **CN
    )
    assert judge("1.3", facts)["answers-after-half-close"].verdict is WARN
    finding = judge("1.2", facts)["answers-after-half-close"]
    assert finding.verdict is NA
    assert "no answer" in finding.seen


def test_an_answer_whose_end_is_a_cut_is_not_whole() -> None:
    def goodbye(**facts: Any) -> dict[Experiment, Observation]:
        return idle(ours=0.2) | seen(Experiment.GOODBYE, data_before=9, **facts)

    check = "answer-is-whole"
    assert judge("1.3", goodbye(ending=Ending.FIN, ended=1.0))[check].verdict is FAIL
    assert judge("1.3", goodbye(ended=1.0, theirs=1.0, **CN))[check].verdict is WARN
    assert judge("1.3", goodbye())[check].verdict is NA
    assert judge("1.3", goodbye(whole=True))[check].verdict is PASS
    assert judge("1.3", idle(ours=0.2))[check].verdict is NA


@pytest.mark.parametrize(
    ("facts", "verdict", "words"),
    [
        ({"whole": True, "data_before": 9, **CN}, PASS, "the whole answer"),
        ({"data_before": 9, "ending": Ending.RESET}, WARN, "a part of the answer"),
        ({"ending": Ending.RESET}, WARN, "no answer"),
        ({"whole": True, "data_before": 9, "ending": Ending.FIN}, WARN, "without"),
        ({}, NA, "did not end"),
    ],
)
def test_an_answer_that_unread_data_destroys_is_a_warning(
    facts: dict[str, Any], verdict: Verdict, words: str
) -> None:
    all_seen = (
        idle(ours=0.2)
        | seen(Experiment.GOODBYE, whole=True, data_before=9, ended=0.2, **CN)
        | seen(Experiment.UNREAD, ended=0.2 if facts else None, **facts)
    )
    finding = judge("1.3", all_seen)["survives-unread-data"]
    assert finding.verdict is verdict
    assert words in finding.seen


def test_sessions_need_not_be_resumed() -> None:
    facts = idle(ours=0.2) | seen(Experiment.RESUME) | seen(Experiment.RESUME_CUT)
    assert judge("1.3", facts)["resumes-after-end"].verdict is WARN
    facts = idle(ours=0.2) | seen(Experiment.RESUME, resumed=True)
    assert judge("1.3", facts)["resumes-after-end"].verdict is PASS
    assert judge("1.3", facts)["resumes-after-cut"].verdict is NA


OPEN: dict[str, Any] = {"ours": 0.2}


@pytest.mark.parametrize(
    ("facts", "after_end", "after_cut"),
    [
        (
            {"ending": Ending.RESET},
            *("no connection ended with close_notify", "no connection was cut"),
        ),
        (CN, *["the server issued no session"] * 2),
        (
            OPEN,
            *("no connection ended with close_notify", "the server issued no session"),
        ),
        (
            {"session_kept": True, **CN},
            *(
                "no connection could be made to resume the session",
                "no connection was cut",
            ),
        ),
    ],
)
def test_why_no_session_was_resumed_is_told(
    facts: dict[str, Any], after_end: str, after_cut: str
) -> None:
    found = judge("1.3", idle(**facts))
    assert found["resumes-after-end"] == Finding(NA, after_end)
    assert found["resumes-after-cut"] == Finding(NA, after_cut)
    found = judge("1.3", idle(**facts), resumes=False)
    for check in ("resumes-after-end", "resumes-after-cut"):
        assert found[check] == Finding(NA, "not asked (see --resumption)")


@pytest.mark.parametrize(
    ("data", "behind"),
    [
        (b"", Behind.NOTHING),
        (b"\x15\x03\x03\x00\x1a" + bytes(26), Behind.ALERT),
        (b"\x17\x03\x03\x00\x13" + bytes(19), Behind.ALERT),
        (b"\x17\x03\x03\x00\x20" + bytes(32), Behind.DATA),
        (b"\x17\x03\x03\x00", Behind.GARBAGE),  # no header yet
        (b"220 clear text\r\n", Behind.CLEAR_TEXT),
        (b"\x1b[31m", Behind.GARBAGE),
    ],
)
def test_what_is_behind_a_close_notify_is_told_by_its_looks(
    data: bytes, behind: Behind
) -> None:
    assert what_is_behind(data) is behind


def test_the_worst_verdict_counts() -> None:
    assert worst({PASS, FAIL, WARN}) is FAIL
    assert worst({PASS, NA}) is PASS
    assert worst(set()) is NA


def test_nothing_is_resembled_where_nothing_was_seen() -> None:
    assert resembles({}) is None


def test_a_session_of_another_ending_is_no_session_of_this_one() -> None:
    facts = idle(session_kept=True, **CN) | seen(Experiment.GOODBYE)  # that is cut
    assert judge("1.3", facts)["resumes-after-cut"].seen == (
        "the server issued no session on a connection that was cut"
    )


def test_durations_are_written_as_people_do() -> None:
    assert milliseconds(0.0123) == "12.3 ms"
    assert milliseconds(2.25) == "2.2 s"


def test_every_check_has_a_section_an_explanation_and_a_remedy() -> None:
    for check in CHECKS:
        assert check.question.endswith("?")
        assert check.meaning.endswith(".")
        assert IN_GENERAL[check.id].advice
        for version in ("1.3", "1.2"):
            assert check.rfc_link(version).startswith("https://www.rfc-editor.org/rfc/")
    assert len({check.id for check in CHECKS}) == len(CHECKS)
    assert CHECKS[0].rfc_link("1.3").endswith("rfc9846#section-6.1")
    assert REMEDIES.keys() <= IN_GENERAL.keys()
    for servers in REMEDIES.values():
        assert servers.keys() <= SOFTWARE
        for advice in servers.values():
            assert advice.link is not None
            assert advice.link.startswith("https://")


def test_a_remedy_is_that_of_the_server_that_says_its_name() -> None:
    assert "lingering_close" in remedy("survives-unread-data", "nginx/1.22.1").advice
    assert "setting" in remedy("survives-unread-data", "HAProxy").advice
    assert "jdk.tls" in remedy("resumes-after-end", "Apache-Coyote/1.1").advice
    general = remedy("survives-unread-data", None)
    assert general.link is None
    assert remedy("survives-unread-data", "Apache/2.4.71") is general


def test_what_a_host_is_said_to_be_has_its_address_only_if_that_is_news() -> None:
    facts: dict[str, Any] = {
        "protocol": "smtp",
        "began": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        "seconds": 1.0,
        "insecure": False,
        "versions": (),
    }
    named = HostResult(
        target=Target("mail.example.org", 25),
        address="192.0.2.1",
        banner="220 hello",
        **facts,
    )
    assert named.about == "smtp, at 192.0.2.1, calls itself 220 hello"
    bare = HostResult(
        target=Target("192.0.2.1", 25), address="192.0.2.1", banner=None, **facts
    )
    assert bare.about == "smtp"
