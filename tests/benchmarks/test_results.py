"""What is made of the figures."""

from __future__ import annotations

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import machine
from benchmarks.as_json import as_json
from benchmarks.markdown import markdown
from benchmarks.measure import CannotError
from benchmarks.plots import draw
from benchmarks.results import Results
from benchmarks.spread import exponent, percentile, summarize
from benchmarks.table import console, show
from benchmarks.targets import TARGETS, Target
from tests.interop.programs import require

from .faking import Scripted, measured, measurement, results

OURS, THEIRS = "trio_tlsdown", "trio.SSLStream"


def test_percentiles_lie_between_the_values() -> None:
    assert percentile([4, 1, 3, 2], 50) == 2.5
    assert percentile([1, 2, 3], 100) == 3
    assert percentile([7], 99) == 7


def test_a_summary_is_the_median_and_the_quartiles() -> None:
    found = summarize([5.0, 1.0, 2.0, 3.0, 4.0])
    assert (found.low, found.median, found.high) == (2.0, 3.0, 4.0)
    assert found.values == (5.0, 1.0, 2.0, 3.0, 4.0)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_is_that_of_the_growth(power: float) -> None:
    sizes = [100, 1000, 10000]
    assert math.isclose(exponent(sizes, [3 * n**power for n in sizes]), power)


@pytest.fixture
def two() -> Results:
    """SSLStream needs twice the time."""
    return measured(
        results("close", "receive", names=(OURS, THEIRS), rounds=1),
        Scripted(*[measurement(1), measurement(2)] * 2),
    )


def test_a_ratio_is_that_of_the_medians(two: Results) -> None:
    close, receive = two.workloads
    assert two.ratio(close, close.headline, OURS, THEIRS) == 0.5
    assert two.ratio(receive, receive.headline, OURS, THEIRS) == 2.0
    assert two.ratio(close, close.headline, OURS, "uvloop") is None


def test_the_best_has_the_least_time_or_the_highest_rate(two: Results) -> None:
    assert [two.best(each, each.headline) for each in two.workloads] == [OURS, OURS]


def test_a_yardstick_is_never_the_best() -> None:
    names = (OURS, "the floor")
    found = measured(
        results("send-4k", names=names, rounds=1),
        Scripted(measurement(2), measurement(1)),
    )
    (send,) = found.workloads
    assert found.best(send, send.headline) == OURS
    assert found.ratio(send, send.headline, "the floor", OURS) == 2.0


def test_a_target_that_was_not_measured_is_left_out(two: Results) -> None:
    told = as_json(two, {})["targets"]
    assert [(row["target"], row["met"]) for row in told] == [
        ("receive: rate >= 1.7 x trio.SSLStream", True),
        ("close: p50 <= 1.3 x trio.SSLStream", True),
    ]


def test_a_quick_run_says_what_is_reduced_and_is_held_against_no_target() -> None:
    run = results("hold-10000", "receive", names=(OURS, THEIRS), quick=True, rounds=1)
    said = markdown(as_json(measured(run, Scripted(measurement())), {}))
    assert "### hold-10000, reduced: 400 idle connections" in said
    assert "A quick run, which only informs" in said
    assert "targets" not in said


def test_what_was_not_measured_was_not_negotiated(found: dict[str, Any]) -> None:
    assert "All negotiated a session." in markdown(found)
    nothing = as_json(results("close", names=(OURS,)), {})
    assert "negotiated" not in markdown(nothing)


def test_the_commit_is_told_and_whether_a_file_was_changed(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=b@c"]
        return subprocess.run(  # noqa: S603 - found by us
            [require("git"), "-C", tmp_path, *who, *words],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    assert machine.commit_of(tmp_path) is None
    git("init", "--quiet")
    assert machine.commit_of(tmp_path) is None
    file = tmp_path / "file"
    file.write_text("before", "ascii")
    git("add", "file")
    git("commit", "--quiet", "--message=one")
    commit = machine.commit_of(tmp_path)
    assert commit == f"commit {git('rev-parse', '--short', 'HEAD')}"
    file.write_text("afterwards", "ascii")
    assert machine.commit_of(tmp_path) == f"{commit}, changed"
    inside = tmp_path / "installed"
    inside.mkdir()
    assert machine.commit_of(inside) is None


def test_without_git_no_commit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert "commit" not in machine.describe()["trio-tlsdown"]


def test_growth_is_that_of_all_connections_together() -> None:
    found = measured(
        results("hold-1000", "hold-10000", names=(OURS,), rounds=1),
        Scripted(measurement()),
    )
    # The same memory for each connection:
    assert found.exponent("hold", "memory", OURS) == pytest.approx(1.0)
    assert found.exponent("hold", "memory", THEIRS) is None


def test_a_target_is_met_or_missed_or_not_measured(two: Results) -> None:
    most = Target("close", "p50", THEIRS, "<=", 1.0)
    least = Target("receive", "rate", THEIRS, ">=", 3.0)
    assert most.value(two) == 0.5
    assert most.met(0.5)
    assert most.met(1.0)
    assert not most.met(1.01)
    assert str(most) == "close: p50 <= 1 x trio.SSLStream"
    assert least.value(two) == 2.0
    assert least.met(3.0)
    assert not least.met(2.0)
    assert Target("connect", "cpu", THEIRS, "<=", 1.0).value(two) is None


def test_the_targets_are_these() -> None:
    assert [str(target) for target in TARGETS] == [
        "receive: rate >= 1.7 x trio.SSLStream",
        "receive: rate >= 1.1 x uvloop",
        "send-64k: rate >= 1.3 x trio.SSLStream",
        "send-4k: rate >= 1.8 x trio.SSLStream",
        "send-512: rate >= 1.8 x trio.SSLStream",
        "ping-pong: p50 <= 0.85 x trio.SSLStream",
        "shutdown: p50 <= 1 x trio.SSLStream",
        "close: p50 <= 1.3 x trio.SSLStream",
        "connect: cpu <= 1 x trio.SSLStream",
        "hold-1000: memory <= 1.1 x trio.SSLStream",
        "hold-10000: end cpu <= 1.1 x bare TLSStream",
        "hold-10000: memory <= 1.05 x trio.SSLStream",
        "hold: end cpu <= 1.1",
    ]


def test_targets_name_what_there_is() -> None:
    everything = measured(results(rounds=1), Scripted(measurement()))
    assert all(target.value(everything) is not None for target in TARGETS)


@pytest.fixture
def found() -> dict[str, Any]:
    """Of a whole run, as JSON."""
    run = results(rounds=2)
    run.left_out["go"] = "go is not installed"
    bench = Scripted(CannotError("no way"), measurement())
    return as_json(measured(run, bench), machine.describe())


def test_the_json_has_all_of_it(found: dict[str, Any]) -> None:
    assert json.loads(json.dumps(found)) == found
    assert found["format"] == 2
    assert {"date", "processor", "cores", "kernel", "OpenSSL"} <= set(found["machine"])
    assert found["sessions"] == ["a session"]
    assert found["yardsticks"] == ["bare TLSStream", "the floor"]
    shutdown = found["workloads"][0]["stacks"]
    assert shutdown[OURS]["cannot"] == "no way"
    assert shutdown[OURS]["figures"] == {}
    p50 = shutdown[THEIRS]["figures"]["p50"]
    assert p50["unit"] == "µs"
    assert p50["to_sslstream"] == 1.0
    assert len(p50["rounds"]) == 2
    assert len(found["targets"]) == len(TARGETS) - 1  # that of shutdown
    assert {row["metric"] for row in found["growth"]} == {
        "end cpu",
        "end wall",
        "memory",
    }


def test_the_table_can_be_read_when_piped(
    found: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    show(found, console())
    said = capsys.readouterr().out
    assert "trio_tlsdown: cannot: no way" in said
    assert "go is left out: go is not installed" in said
    where = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    assert f"\n{where}\n" in said
    assert "connect: cpu <= 1 x trio.SSLStream" in said
    assert "\x1b" not in said


def test_the_markdown_has_the_same_tables(found: dict[str, Any]) -> None:
    said = markdown(found)
    assert "### shutdown: graceful shutdown" in said
    assert "| **trio_tlsdown** | cannot |" in said
    assert "### targets of trio_tlsdown" in said


def test_there_is_a_picture_of_each_workload(
    found: dict[str, Any], tmp_path: Path
) -> None:
    files = {file.stem for file in draw(found, tmp_path / "svg")}
    overview = (tmp_path / "svg" / "overview.svg").read_text("utf-8")
    assert "the floor (a yardstick)" in overview
    assert ">trio.SSLStream<" in overview  # the line at 1
    assert {workload["name"] for workload in found["workloads"]} < files
    assert {"overview", "growth-memory"} < files


def test_without_sslstream_there_is_no_overview(tmp_path: Path) -> None:
    only = measured(results("close", names=("uvloop",)), Scripted(measurement()))
    files = draw(as_json(only, {}), tmp_path)
    assert [file.name for file in files] == ["close.svg"]
