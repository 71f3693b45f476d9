"""What ``trio-tlsdown demo`` prints, and with which code it exits."""

from __future__ import annotations

import errno
import json
import os
import re
import ssl
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner, Result

from trio_tlsdown import ShutdownOutcome
from trio_tlsdown.cli._app import app
from trio_tlsdown.cli._expected import EXPECTED
from trio_tlsdown.testing import client_context, server_context

COLUMNS = 80
README = Path(__file__).parents[2] / "README.md"
REPORT_FIELDS = {
    *("outcome", "secure", "close_notify_sent", "close_notify_received", "first"),
    *("peer_data_complete", "discarded", "elapsed", "error"),
}


def demo(*options: str, charset: str = "utf-8", **env: str) -> Result:
    return CliRunner(charset=charset, env=env).invoke(app, ["demo", *options])


def without_times(text: str) -> list[str]:
    return [re.sub(r"^ +[\d.]+  ", " " * 10, line) for line in text.splitlines()]


def test_the_demo_plays_all_scenarios_and_all_end_as_they_should() -> None:
    result = demo()
    assert result.exit_code == 0
    assert result.stderr == ""
    for name in ("1a", "1b", "2", "3", "4a", "4b"):
        for version in ("1.2", "1.3"):
            assert f"Scenario {name}, TLS {version}: " in result.stdout
    assert result.stdout.endswith("Runs: 12. All ended as they should.\n")


def test_the_output_is_readable_at_80_columns_and_in_a_pipe() -> None:
    for result in (demo(), demo("--help"), demo("--scenario", "5")):
        assert "\x1b" not in result.output
        assert max(map(len, result.output.splitlines())) <= COLUMNS


def test_each_scenario_has_a_line_in_the_table_for_each_party() -> None:
    lines = [re.split(r"  +", line.strip()) for line in demo().stdout.splitlines()]
    for (name, party), ending in EXPECTED.items():
        for version in ("1.2", "1.3"):
            assert [
                *(name, version, party, ending.outcome.name),
                *("yes" if ending.secure else "no", ending.boost_then),
                ending.boost_now,
            ] in lines


def test_scenario_3_draws_both_alerts_and_the_clear_text_behind_them() -> None:
    result = demo("--scenario", "3", "--tls", "1.3", charset="ascii")
    lines = without_times(result.stdout)
    start = lines.index("Scenario 3, TLS 1.3: A shuts down and waits, B shuts down too")
    assert lines[start + 2 : start + 12] == [
        "      ms  A (client)                                              B (server)",
        "          |<------------------------- handshake -------------------------->|",
        "          |------------------------- close_notify ------------------------>|",
        "          |<------------------------- close_notify ------------------------|",
        "          | --------------- unwrap: TLS is over, TCP stays --------------- |",
        "          |----------------------- clear text, 5 B ----------------------->|",
        "          |<----------------------- clear text, 6 B -----------------------|",
        "          |-------------------- transport closed: FIN -------------------->|",
        "          :                                               transport closed |",
        "          COMPLETE, end confirmed                    COMPLETE, end confirmed",
    ]


def test_scenario_4_draws_the_cancellation_and_the_alert_that_nobody_received() -> None:
    result = demo("--scenario", "4", "--tls", "1.2", charset="ascii")
    lines = without_times(result.stdout)
    start = lines.index(
        "Scenario 4b, TLS 1.2: A is cancelled while it waits, closes, then B shuts down"
    )
    assert lines[start + 2 : start + 10] == [
        "      ms  A (client)                                              B (server)",
        "          |<------------------------- handshake -------------------------->|",
        "          |------------------------- close_notify ------------------------>|",
        "          | cancelled                                                      |",
        "          | transport closed                                               |",
        "          :                    x<-------------- close_notify --------------|",
        "          :                                               transport closed |",
        "          ABORTED, end confirmed                     COMPLETE, end confirmed",
    ]


def test_the_readme_shows_what_the_demo_draws() -> None:
    shown = README.read_text("utf-8").partition("```text\n")[2].partition("```")[0]
    result = demo("--scenario", "2", "--scenario", "3", "--tls", "1.3")
    assert "\n".join(without_times(shown)) in "\n".join(without_times(result.stdout))


def test_where_the_terminal_knows_no_unicode_all_is_ascii() -> None:
    assert demo(charset="ascii").stdout.isascii()
    assert not demo("--scenario", "1").stdout.isascii()


def test_the_options_choose_scenarios_and_version() -> None:
    result = demo("--scenario", "3", "--scenario", "4", "--tls", "1.2")
    assert re.findall(r"^Scenario (\S+), TLS (\S+):", result.stdout, re.MULTILINE) == [
        ("3", "1.2"),
        ("4a", "1.2"),
        ("4b", "1.2"),
    ]


@pytest.mark.parametrize("options", [("--tls", "1.1"), ("--scenario", "5"), ("x",)])
def test_an_option_that_there_is_not_is_a_usage_error(
    options: tuple[str, ...],
) -> None:
    result = demo(*options)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error: " in result.stderr


def test_an_ending_that_is_not_as_expected_is_told_and_exits_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(
        EXPECTED,
        ("3", "A"),
        attrs.evolve(EXPECTED["3", "A"], outcome=ShutdownOutcome.RESET, secure=False),
    )
    result = demo("--scenario", "3", "--tls", "1.3")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "Scenario 3, TLS 1.3: A ended COMPLETE, expected RESET",
        "Scenario 3, TLS 1.3: A: secure is True, expected False",
    ]
    assert "as they should" not in result.stdout
    assert "COMPLETE" in result.stdout  # what was seen, not what was expected

    result = demo("--scenario", "3", "--tls", "1.3", "--json")
    data = json.loads(result.stdout)
    assert result.exit_code == 1
    assert data["ok"] is data["runs"][0]["ok"] is False
    assert data["runs"][0]["differences"] == [
        "A ended COMPLETE, expected RESET",
        "A: secure is True, expected False",
    ]


def test_json_holds_what_was_seen() -> None:
    result = demo("--scenario", "2", "--scenario", "4", "--json")
    assert result.exit_code == 0
    data = json.loads(result.stdout)
    assert data["ok"] is True
    assert [(r["scenario"], r["variant"], r["tls"]) for r in data["runs"]] == [
        *((2, None, "1.2"), (2, None, "1.3"), (4, "a", "1.2")),
        *((4, "a", "1.3"), (4, "b", "1.2"), (4, "b", "1.3")),
    ]
    for run in data["runs"]:
        assert run["ok"] is True
        assert run["differences"] == []
        assert [(p["party"], p["side"]) for p in run["parties"]] == [
            ("A", "client"),
            ("B", "server"),
        ]
        for party in run["parties"]:
            assert set(party["report"]) == REPORT_FIELDS
            for field in ("outcome", "secure"):
                assert party["report"][field] == party["expected"][field]
        assert {event["side"] for event in run["events"]} == {"client", "server"}
        assert all(event["ms"] >= 0 for event in run["events"])

    a, b = data["runs"][1]["parties"]
    assert a["report"]["error"].startswith("TruncatedError: ")
    assert a["report"]["first"] == "local"
    assert a["expected"]["boost_now"] == "stream_truncated"
    assert b["report"]["error"] is None
    assert [
        (event["side"], event["kind"])
        for event in data["runs"][1]["events"]
        if "close_notify" in event["kind"]
    ] == [("client", "close_notify sent"), ("server", "close_notify received")]


def test_without_tcp_on_loopback_the_command_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Nobody has this address: RFC 5737.
    monkeypatch.setattr("trio_tlsdown.cli._stage.LOOPBACK", "192.0.2.1")
    result = demo("--scenario", "3")
    assert result.exit_code == 3
    assert result.stderr.startswith("Error: cannot play here: ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("fails", ["context", "handshake"])
def test_without_the_tls_version_the_command_says_so(
    monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def contexts(version: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        if fails == "context":
            raise ValueError("Unsupported protocol version 0x304")
        return client_context(version="TLSv1.2"), server_context(version="TLSv1.3")

    monkeypatch.setattr("trio_tlsdown.cli._stage._contexts", contexts)
    result = demo("--scenario", "3", "--tls", "1.3")
    assert result.exit_code == 3
    assert result.stderr.startswith("Error: cannot play here: ")
    assert len(result.stderr.splitlines()) == 1
    assert "ssl_context" not in result.stderr  # which its user does not have


def test_a_key_log_that_cannot_be_written_is_told_with_the_variable_that_names_it(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "no" / "keys")
    result = demo("--scenario", "3", SSLKEYLOGFILE=path)
    assert result.exit_code == 3
    why = os.strerror(errno.ENOENT)
    assert result.stderr == f"Error: cannot play here: SSLKEYLOGFILE={path}: {why}\n"


def test_a_key_log_gets_the_keys_behind_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# of another session\n")
    assert demo("--scenario", "3", SSLKEYLOGFILE=str(path)).exit_code == 0
    first, *rest = path.read_text().splitlines()
    assert first == "# of another session"
    assert any("TRAFFIC_SECRET" in line for line in rest)


@pytest.mark.parametrize("columns", [120, 79, 75, 60, 40])
def test_nothing_is_wider_than_the_terminal(columns: int) -> None:
    for charset in "utf-8", "ascii":
        result = demo(charset=charset, COLUMNS=str(columns))
        assert max(map(len, result.stdout.splitlines())) <= columns
        assert result.stdout.endswith("All ended as they should.\n")
        assert ("Asio, Boost 1.74: stream_truncated" in result.stdout) is (columns < 75)


def test_at_40_columns_words_are_shorter_or_below_each_other() -> None:
    result = demo("--scenario", "3", "--tls", "1.3", charset="ascii", COLUMNS="40")
    lines = without_times(result.stdout)
    start = lines.index("      ms  A (client)          B (server)")
    assert lines[start + 1 : start + 11] == [
        "          |<------- handshake -------->|",
        "          |------- close_notify ------>|",
        "          |<------- close_notify ------|",
        "          | --------- unwrap --------- |",
        "          |----- clear text, 5 B ----->|",
        "          |<----- clear text, 6 B -----|",
        "          |-- transport closed: FIN -->|",
        "          :           transport closed |",
        "          COMPLETE              COMPLETE",
        "          end confirmed    end confirmed",
    ]
    result = demo("--scenario", "2", "--tls", "1.3", charset="ascii", COLUMNS="40")
    assert (
        "          TRUNCATED              ABORTED\n"
        "          end not                end not\n"
        "          confirmed            confirmed\n"
    ) in result.stdout


def test_the_help_tells_the_exit_codes() -> None:
    for line in ("0  everything ended as it", "1  something", "3  it cannot be played"):
        assert line in demo("--help").stdout
    # Not 3, as for a full disk: `test_a_reader_that_has_gone_is_no_traceback`.
    assert "reader of its output has gone" in demo("--help").stdout


def test_a_scenario_that_does_not_end_is_told_and_exits_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trio_tlsdown.cli._scenarios.PATIENCE", 0)
    result = demo("--scenario", "3", "--tls", "1.3")
    assert result.exit_code == 1
    assert result.stderr == "Error: scenario 3, TLS 1.3, did not end in 10 s\n"


def test_colour_can_be_had_in_a_pipe_too() -> None:
    coloured = demo("--scenario", "3", FORCE_COLOR="1", TERM="xterm")
    assert "\x1b[" in coloured.stdout
