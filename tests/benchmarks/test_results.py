"""What is made of the figures."""

from __future__ import annotations

import json
import math
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
    assert str(most) == "close: p50 <= 1 x trio.SSLStream"
    assert least.value(two) == 2.0
    assert not least.met(2.0)
    assert Target("connect", "cpu", THEIRS, "<=", 1.0).value(two) is None


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
    assert found["format"] == 1
    assert {"date", "processor", "cores", "kernel", "OpenSSL"} <= set(found["machine"])
    assert found["session"] == ["TLSv1.3", "TLS_AES_256_GCM_SHA384"]
    shutdown = found["workloads"][0]["stacks"]
    assert shutdown[OURS]["cannot"] == "no way"
    assert shutdown[OURS]["figures"] == {}
    p50 = shutdown[THEIRS]["figures"]["p50"]
    assert p50["unit"] == "µs"
    assert p50["to_sslstream"] == 1.0
    assert len(p50["rounds"]) == 2
    assert len(found["targets"]) == len(TARGETS)
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
    assert {workload["name"] for workload in found["workloads"]} < files
    assert {"overview", "growth-memory"} < files


def test_without_sslstream_there_is_no_overview(tmp_path: Path) -> None:
    only = measured(results("close", names=("uvloop",)), Scripted(measurement()))
    files = draw(as_json(only, {}), tmp_path)
    assert [file.name for file in files] == ["close.svg"]
