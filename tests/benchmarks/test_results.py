"""What is computed from the samples, and what is shown and published of it."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path

import pytest

from benchmarks import machine, publish
from benchmarks.catalogue import WORKLOADS
from benchmarks.measure import CannotError
from benchmarks.report import number, show
from benchmarks.results import Outcome, Results, load, save
from benchmarks.targets import TARGETS, Target, compared
from tests.interop.programs import require, require_module

from .faking import Scripted, measured, measurement

OURS, THEIRS = "trio_tlsdown", "trio.SSLStream"


def test_the_quartiles_lie_between_the_rounds() -> None:
    outcome = Outcome(rounds=[{"p50": value} for value in (5.0, 1.0, 2.0, 3.0, 4.0)])
    assert outcome.quartiles("p50") == (2.0, 3.0, 4.0)
    assert Outcome(rounds=[{"p50": 7.0}]).quartiles("p50") == (7.0, 7.0, 7.0)
    assert Outcome().quartiles("p50") is None


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_is_that_of_all_connections_together(power: float) -> None:
    def drain(connections: int) -> dict[str, Outcome]:
        return {OURS: Outcome(rounds=[{"cpu": 3 * connections ** (power - 1)}])}

    results = Results({}, {f"drain-{n}": drain(n) for n in (1000, 10000)}, 1)
    exponent = results.exponent("drain", "cpu", OURS)
    assert exponent is not None
    assert math.isclose(exponent, power)
    assert results.exponent("drain", "cpu", THEIRS) is None


@pytest.fixture
def two() -> Results:
    """SSLStream needs twice the time."""
    bench = Scripted(*[measurement(1), measurement(2)] * 2)
    return measured(bench, "close", "receive", names=(OURS, THEIRS), rounds=1)


def test_a_ratio_is_that_of_the_medians(two: Results) -> None:
    assert two.ratio("close", "p50", OURS, THEIRS) == 0.5
    assert two.ratio("receive", "rate", OURS, THEIRS) == 2.0
    assert two.ratio("close", "p50", OURS, "uvloop") is None


def test_the_best_has_the_least_time_or_the_highest_rate(two: Results) -> None:
    for name in two.outcomes:
        assert two.best(name, WORKLOADS[name].metrics[0]) == OURS


def test_a_yardstick_is_never_the_best() -> None:
    bench = Scripted(measurement(2), measurement(1))
    results = measured(bench, "send-4k", names=(OURS, "the floor"), rounds=1)
    assert results.best("send-4k", WORKLOADS["send-4k"].metrics[0]) == OURS
    assert results.ratio("send-4k", "rate", "the floor", OURS) == 2.0


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        ("echo-300: cpu", 500.0),  # µs a message
        ("echo-300: rate", 300 / 0.001),
        ("accept: rate", 1 / 0.001),
        ("burst: longest", 1.0),  # ms
        ("drain-1000: memory", 20.0),  # KiB
        ("receive: cpu", 500 / 64),  # µs a MiB
        ("ping-pong: p99", 1000.0),
    ],
)
def test_a_metric_is_in_its_unit(metric: str, value: float) -> None:
    workload, _, name = metric.partition(": ")
    results = measured(Scripted(measurement()), workload, names=(OURS,), rounds=1)
    median = results.median(workload, name, OURS)
    assert median == pytest.approx(value)


def test_a_target_is_met_or_missed_or_not_measured(two: Results) -> None:
    most = Target("close", "p50", "<=", 0.5)
    least = Target("receive", "rate", ">=", 3.0)
    own = Target("close", "cpu", "<=", 0.5, OURS, of="receive")
    assert most.value(two) == 0.5
    assert most.met(0.5)
    assert not most.met(0.51)
    assert str(most) == "close: p50 <= 0.5 x trio.SSLStream"
    assert least.value(two) == 2.0
    assert least.met(3.0)
    assert not least.met(2.0)
    assert own.value(two) == 64.0  # the same time, per MiB
    assert Target("connect", "cpu", "<=", 1.0).value(two) is None
    assert [str(target) for target, _ in compared(two)] == [
        "close: p50 <= 1 x trio.SSLStream",
        "receive: rate >= 2.2 x trio.SSLStream",
    ]


def test_the_targets_are_these() -> None:
    assert [str(target) for target in TARGETS] == [
        "shutdown: p50 <= 0.97 x trio.SSLStream",
        "close: p50 <= 1 x trio.SSLStream",
        "abort: cpu <= 0.5 x trio_tlsdown's close",
        "connect: cpu <= 0.92 x trio.SSLStream",
        "connect-resumed: cpu <= 0.65 x trio.SSLStream's connect",
        "receive: rate >= 2.2 x trio.SSLStream",
        "receive: rate >= 1.1 x uvloop",
        "receive-16k: rate >= 1.5 x trio.SSLStream",
        "send-64k: rate >= 1.35 x trio.SSLStream",
        "send-4k: rate >= 2.2 x trio.SSLStream",
        "send-512: rate >= 2.3 x trio.SSLStream",
        "ping-pong: p50 <= 0.5 x trio.SSLStream",
        "echo-300: cpu <= 0.6 x trio.SSLStream",
        "echo-300: cpu <= 1.5 x asyncio",
        "echo-1000: p99 <= 0.6 x trio.SSLStream",
        "burst: longest <= 0.15 x trio.SSLStream",
        "burst: longest <= 0.15 x uvloop",
        "drain-1000: memory <= 1.03 x trio.SSLStream",
        "drain-10000: memory <= 1.03 x trio.SSLStream",
        "drain-10000: cpu <= 1.1 x bare TLSStream",
        "drain: cpu of all grows with exponent <= 1.08",
    ]


@pytest.fixture
def whole() -> Results:
    """A run of everything, in which shutdown cannot be done by us."""
    bench = Scripted(CannotError("no way"), measurement())
    results = measured(bench, rounds=2)
    results.left_out["go"] = "go is not installed"
    return results


def test_each_target_can_be_measured(whole: Results) -> None:
    assert len(compared(whole)) == len(TARGETS) - 1  # that of shutdown


def test_a_quick_run_is_compared_with_no_target(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bench = Scripted(measurement())
    names = (OURS, THEIRS)
    quick = measured(bench, "drain-10000", "receive", names=names, quick=True)
    assert compared(quick) == []
    show(quick)
    shown = capsys.readouterr().out
    assert "drain-10000, reduced: " in shown
    assert "A quick run only informs" in shown
    assert "targets" not in shown


def test_the_tables_can_be_read_when_piped(
    whole: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    show(whole)
    shown = capsys.readouterr().out
    assert "trio_tlsdown: cannot: no way" in shown
    assert "go is left out: go is not installed" in shown
    target = "connect: cpu <= 0.92 x trio.SSLStream"
    assert [target, "1.000", "MISSED"] in [
        line.strip().rsplit(maxsplit=2) for line in shown.splitlines()
    ]
    assert "\x1b" not in shown
    assert [number(value) for value in (1234.5, 12.34, 1.234)] == [
        "1,234",
        "12.3",
        "1.23",
    ]


def test_what_json_wrote_can_be_reported_again(whole: Results, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    save(whole, file)
    assert load(file) == whole


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"outcomes": {}}',
        '{"outcomes": {"hold-1": {}}, "machine": {}, "rounds": 1}',
        '{"outcomes": {"close": {"go": {"laps": 1}}}, "machine": {}, "rounds": 1}',
    ],
)
def test_a_file_that_json_did_not_write_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    file.write_text(text, "utf-8")
    with pytest.raises(ValueError, match="is no file that --json wrote"):
        load(file)


def test_the_figures_are_put_into_a_page_with_json_and_a_picture_beside_it(
    whole: Results, tmp_path: Path
) -> None:
    require_module("matplotlib")
    page = tmp_path / "page.md"
    page.write_text(f"before\n{publish.BEGIN}old\n{publish.END}after\n", "utf-8")
    for _ in range(2):
        publish.write(page, whole)
        text = page.read_text("utf-8")
        assert text.startswith(f"before\n{publish.BEGIN}\n|  | ")
        assert text.endswith(f"\n\n{publish.END}after\n")
        assert "| `connect`: cpu, µs | 500 (1.00x) | " in text
        assert "| connect: cpu <= 0.92 x trio.SSLStream | 1.000 | MISSED |" in text
        assert "\n- trio_tlsdown: cannot: no way (shutdown)\n" in text
        assert "old" not in text
    figures = publish.read(page)
    assert figures == publish.published(whole)
    picture = page.with_suffix(".svg").read_text("utf-8")
    assert publish.source(figures) in picture
    assert ">trio.SSLStream<" in picture  # the line at 1
    assert ">the floor<" in picture


def test_the_published_page_and_picture_are_those_of_the_json() -> None:
    page = Path(__file__).parents[2] / "docs" / "benchmarks.md"
    figures = publish.read(page)
    text = page.read_text("utf-8")
    advice = "python -m benchmarks --page docs/benchmarks.md"
    assert text == publish.with_figures(text, figures), advice
    picture = page.with_suffix(".svg").read_text("utf-8")
    assert publish.source(figures) in picture, advice


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
    assert {"date", "processor", "cores", "kernel", "OpenSSL"} <= set(
        machine.describe()
    )
    monkeypatch.setenv("PATH", "")
    assert "trio_tlsdown" not in machine.describe()
