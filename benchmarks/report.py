"""The results on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .catalogue import WORKLOADS, Metric, Workload
from .implementations import BASELINE, OURS
from .measure import SESSION
from .results import Outcome, Results
from .targets import compared

NONE: Final = "-"
PIPED_WIDTH: Final = 150
STYLES: Final = {"met": "green", "MISSED": "bold red", "failed": "bold red"}


def number(value: float) -> str:
    """Three significant digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def times(ratio: float | None) -> str:
    return NONE if ratio is None else f"{ratio:.2f}x"


def show(results: Results) -> None:
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    for name, outcomes in results.outcomes.items():
        console.print(_workload(results, WORKLOADS[name]))
        for implementation, outcome in outcomes.items():
            for note in outcome.notes:
                console.print(f"  {implementation}: {note}", soft_wrap=True)
        console.print()
    if targets := compared(results):
        table = _table("targets of trio_tlsdown", "target", "measured", "")
        for target, value in targets:
            met = "met" if target.met(value) else "MISSED"
            _add(table, str(target), f"{value:.3f}", met)
        console.print(table)
    for line in circumstances(results):
        console.print(line, soft_wrap=True)


def _table(title: str, *heads: str) -> Table:
    style = {"title_justify": "left", "title_style": "bold"}
    table = Table(title=title, box=box.SIMPLE_HEAD, **style)  # type: ignore[arg-type]
    for index, head in enumerate(heads):
        table.add_column(head, justify="right" if index else "left")
    return table


def _add(table: Table, *cells: str) -> None:
    styled = [Text(cell, STYLES.get(cell, "")) for cell in cells]
    table.add_row(*styled, style="bold" if cells[0] == OURS else None)


def _workload(results: Results, workload: Workload) -> Table:
    """All metrics with their ratio to SSLStream; the headline in full."""
    reduced = ", reduced" if results.quick else ""
    rounds = f"{results.rounds} round{'s' * (results.rounds > 1)}"
    heads = [""]
    for metric in workload.metrics:
        more = ", more is better" if metric.higher_is_better else ""
        heads.append(f"{metric.name}, {metric.unit}{more}")
        if metric is workload.metrics[0]:
            heads += ["quartiles", "x best"]
        heads.append("x SSLStream")
    title = f"{workload.name}{reduced}: {workload.title} ({rounds})"
    table = _table(title, *heads)
    for name, outcome in results.outcomes[workload.name].items():
        row = [name]
        for metric in workload.metrics:
            row += _figure(results, workload, metric, name, outcome)
        if outcome.over:
            row[1] = "failed" if outcome.failed else "cannot"
        _add(table, *row)
    return table


def _figure(
    results: Results, workload: Workload, metric: Metric, name: str, outcome: Outcome
) -> Iterator[str]:
    headline = metric is workload.metrics[0]
    quartiles = outcome.quartiles(metric.name)
    if quartiles is None:
        yield from [NONE] * (4 if headline else 2)
        return
    first, median, third = quartiles
    yield number(median)
    if headline:
        best = results.best(workload.name, metric)
        yield f"{number(first)} - {number(third)}"
        yield times(
            (best and results.ratio(workload.name, metric.name, name, best)) or None
        )
    yield times(results.ratio(workload.name, metric.name, name, BASELINE))


def circumstances(results: Results) -> Iterator[str]:
    """Where and how it was measured."""
    if results.quick:
        yield "A quick run only informs: it is short, and repeats nothing."
    yield "Medians; less is better, unless it says otherwise. Yardsticks are never best."
    yield f"All negotiated {' '.join(SESSION)}; the certificate is ECDSA on P-256."
    yield ", ".join(f"{key} {value}" for key, value in results.machine.items())
    for name, version in results.versions.items():
        yield f"{name}: {version}"
    for name, reason in results.left_out.items():
        yield f"{name} is left out: {reason}"
