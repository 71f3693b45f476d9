"""The results as tables for a document, from their JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .figures import number, times


def markdown(found: Mapping[str, Any]) -> str:
    return "\n".join(_lines(found))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    yield "; ".join(f"{key}: {value}" for key, value in found["machine"].items())
    yield ""
    for workload in found["workloads"]:
        yield from _workload(workload)
    if found["growth"]:
        yield "**Growth with the number of connections**"
        yield ""
        yield _row(["", "cost", "exponent"])
        yield "|---|---|--:|"
        for row in found["growth"]:
            what = f"{row['kind']}: {row['metric']}"
            yield _row([row["stack"], what, f"{row['exponent']:.2f}"])
        yield ""
    yield "**Targets**"
    yield ""
    yield _row(["target", "measured", ""])
    yield "|---|--:|---|"
    for row in found["targets"]:
        if row["met"] is not None:
            verdict = "met" if row["met"] else "missed"
            yield _row([row["target"], f"{row['value']:.2f}", verdict])


def _workload(workload: Mapping[str, Any]) -> Iterator[str]:
    stacks = workload["stacks"]
    metrics = next((each["figures"] for each in stacks.values() if each["figures"]), {})
    headline = workload["headline"]
    yield f"**{workload['name']}**: {workload['title']}"
    yield ""
    heads = [f"{name}, {figure['unit']}" for name, figure in metrics.items()]
    yield _row(["", *heads, "as good as SSLStream", "as the best", "remarks"])
    yield f"|---|{'--:|' * (len(heads) + 2)}---|"
    for stack, outcome in stacks.items():
        figures = outcome["figures"]
        best = figures.get(headline, {})
        yield _row(
            [
                stack,
                *(number(figures[name]["median"]) if name in figures else "-"
                  for name in metrics),
                times(best.get("as_good_as_sslstream")),
                times(best.get("as_good_as_the_best")),
                "; ".join(outcome["remarks"]),
            ]
        )  # fmt: skip
    yield ""
