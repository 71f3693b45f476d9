"""The results as rows of text, from their JSON: for terminals and for documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .stacks import OURS

NONE: Final = "-"


@dataclass
class Rows:
    title: str
    heads: list[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def is_ours(self, row: list[str]) -> bool:
        return row[0] == OURS


def number(value: float) -> str:
    """Three digits that count."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _times(ratio: float | None) -> str:
    return NONE if ratio is None else f"{ratio:.2f}x"


def _workload(workload: Mapping[str, Any]) -> Rows:
    """All figures with their ratio to SSLStream; the headline is told in full."""
    stacks = workload["stacks"]
    metrics: dict[str, Any] = next(
        (each["figures"] for each in stacks.values() if each["figures"]), {}
    )
    headline = workload["headline"]
    count = workload["rounds"]
    rounds = "1 round" if count == 1 else f"{count} rounds"
    found = Rows(f"{workload['title']} ({rounds})", [""])
    for name, figure in metrics.items():
        more = ", more is better" if figure["higher_is_better"] else ""
        found.heads.append(f"{name}, {figure['unit']}{more}")
        if name == headline:
            found.heads += ["quartiles", "x best"]
        found.heads.append("x SSLStream")
    for stack, outcome in stacks.items():
        row = [stack]
        for name in metrics:
            row += _figure(outcome["figures"].get(name), full=name == headline)
        if outcome["cannot"] is not None:
            row[1:2] = ["cannot"]
        elif outcome["failed"] is not None:
            row[1:2] = ["failed"]
        found.rows.append(row)
        found.notes += [f"{stack}: {remark}" for remark in outcome["remarks"]]
    return found


def _figure(figure: Mapping[str, Any] | None, *, full: bool) -> list[str]:
    if figure is None:
        return [NONE] * (4 if full else 2)
    low, high = map(number, figure["quartiles"])
    more = [f"{low} - {high}", _times(figure["to_best"])] if full else []
    return [number(figure["median"]), *more, _times(figure["to_sslstream"])]


def _growth(found: Mapping[str, Any]) -> Rows:
    title = "growth: all connections together cost ~ their number ** exponent"
    rows = [
        [row["stack"], f"{row['kind']}: {row['metric']}", f"{row['exponent']:.2f}"]
        for row in found["growth"]
    ]
    return Rows(title, ["", "cost", "exponent"], rows)


def _targets(found: Mapping[str, Any]) -> Rows:
    rows = [
        [row["target"], f"{row['value']:.3f}", "met" if row["met"] else "MISSED"]
        for row in found["targets"]
    ]
    return Rows("targets of trio_tlsdown", ["target", "measured", ""], rows)


def tables(found: Mapping[str, Any]) -> Iterator[Rows]:
    for workload in found["workloads"]:
        yield _workload(workload)
    if found["growth"]:
        yield _growth(found)
    if found["targets"]:
        yield _targets(found)


def _yardsticks(found: Mapping[str, Any]) -> Iterator[str]:
    if found["yardsticks"]:
        yield f"without the yardsticks ({', '.join(found['yardsticks'])})"


def circumstances(found: Mapping[str, Any]) -> Iterator[str]:
    """Sentences about where and how it was measured."""
    if found["quick"]:
        yield "A quick run, which only informs: it is short, and repeats nothing."
    yield "Medians; less is better, where it does not say otherwise."
    yield " ".join(["x best: of the stacks of this run", *_yardsticks(found)]) + "."
    if found["sessions"]:
        yield f"All negotiated {', '.join(found['sessions'])}."
    yield ", ".join(f"{key} {value}" for key, value in found["machine"].items())
    for name, version in found["versions"].items():
        yield f"{name}: {version}"
    for name, reason in found["left_out"].items():
        yield f"{name} is left out: {reason}"
