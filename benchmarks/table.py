"""The results on a terminal, from their JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .figures import number, times
from .stacks import OURS

PIPED_WIDTH: Final = 140


def console() -> Console:
    found = Console(highlight=False)
    if not found.is_terminal:
        found.width = PIPED_WIDTH
    return found


def show(found: Mapping[str, Any], out: Console) -> None:
    for workload in found["workloads"]:
        out.print(_workload(workload))
    if found["growth"]:
        out.print(_growth(found["growth"]))
    for name, reason in found["left_out"].items():
        out.print(f"{name} is left out: {reason}")
    out.print(_targets(found["targets"]))
    out.print(", ".join(f"{key} {value}" for key, value in found["machine"].items()))
    rounds = "quick" if found["quick"] else f"{found['rounds']} rounds"
    out.print(f"{' '.join(found['session'])} for all; medians [quartiles] of {rounds}")


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE)


def _workload(workload: Mapping[str, Any]) -> Table:
    table = _table(f"{workload['name']}: {workload['title']}")
    table.add_column("")
    stacks = workload["stacks"]
    metrics = next((each["figures"] for each in stacks.values() if each["figures"]), {})
    for name, figure in metrics.items():
        table.add_column(f"{name}, {figure['unit']}", justify="right", no_wrap=True)
    headline = workload["headline"]
    table.add_column(f"{headline} as good\nas SSLStream", justify="right")
    table.add_column("as the best", justify="right")
    table.add_column("remarks")
    for stack, outcome in stacks.items():
        figures = outcome["figures"]
        best = figures.get(headline, {})
        table.add_row(
            stack,
            *(_figure(figures.get(name)) for name in metrics),
            times(best.get("as_good_as_sslstream")),
            times(best.get("as_good_as_the_best")),
            "; ".join(outcome["remarks"]),
            style="bold" if stack == OURS else None,
        )
    return table


def _figure(figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return "-"
    low, high = figure["quartiles"]
    return f"{number(figure['median'])} [{number(low)}-{number(high)}]".replace(
        "[", r"\["
    )


def _growth(rows: list[Mapping[str, Any]]) -> Table:
    table = _table("growth with the number of connections: cost ~ number ** exponent")
    for heading in ("", "cost", "exponent"):
        table.add_column(heading)
    for row in rows:
        table.add_row(
            row["stack"],
            f"{row['kind']}: {row['metric']}",
            f"{row['exponent']:.2f}",
            style="bold" if row["stack"] == OURS else None,
        )
    return table


def _targets(rows: list[Mapping[str, Any]]) -> Table:
    table = _table("targets of trio_tlsdown")
    for heading in ("target", "measured", ""):
        table.add_column(heading)
    for row in rows:
        if row["met"] is None:
            table.add_row(row["target"], "", Text("not measured", "dim"))
        else:
            verdict = Text("met", "green") if row["met"] else Text("MISSED", "bold red")
            table.add_row(row["target"], f"{row['value']:.2f}", verdict)
    return table
