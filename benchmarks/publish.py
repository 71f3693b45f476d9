"""The published figures: a small JSON file, and the page and picture made from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypedDict

from .catalogue import WORKLOADS
from .implementations import BASELINE, IMPLEMENTATIONS, OURS
from .report import NONE, number, times
from .results import Results
from .targets import TARGETS, compared

BEGIN: Final = "<!-- figures, made by --page -->\n"
END: Final = "<!-- end of figures -->\n"
STYLE: Final[dict[Any, Any]] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "trio_tlsdown",  # the same picture for the same figures
}


class Row(TypedDict):
    """The medians of one metric, by implementation."""

    workload: str
    metric: str
    unit: str
    more_is_better: bool
    medians: dict[str, float]


class Published(TypedDict):
    rounds: int
    machine: dict[str, str]
    versions: dict[str, str]
    rows: list[Row]
    notes: dict[str, list[str]]
    """The workloads that each note is about."""
    targets: list[list[Any]]
    """Each target, what was measured, and whether it is met."""


def published(results: Results) -> Published:
    """The headline of each workload, the metrics that have targets, and the targets."""
    rows: list[Row] = []
    notes: dict[str, list[str]] = {}
    targeted = {(target.workload, target.metric) for target in TARGETS}
    for name, outcomes in results.outcomes.items():
        workload = WORKLOADS[name]
        for metric in workload.metrics:
            if metric is workload.metrics[0] or (name, metric.name) in targeted:
                medians = {
                    implementation: float(f"{median:.4g}")
                    for implementation in outcomes
                    if (median := results.median(name, metric.name, implementation))
                }
                rows.append(
                    {
                        "workload": name,
                        "metric": metric.name,
                        "unit": metric.unit,
                        "more_is_better": metric.higher_is_better,
                        "medians": medians,
                    }
                )
        for implementation, outcome in outcomes.items():
            for note in outcome.notes:
                notes.setdefault(f"{implementation}: {note}", []).append(name)
    targets = [
        [str(target), round(value, 3), "met" if target.met(value) else "MISSED"]
        for target, value in compared(results)
    ]
    return {
        "rounds": results.rounds,
        "machine": results.machine,
        "versions": results.versions,
        "rows": rows,
        "notes": notes,
        "targets": targets,
    }


def as_text(figures: Published) -> str:
    """JSON, a line for each row."""
    parts = {
        key: _lines(value)
        if isinstance(value, list)
        else json.dumps(value, ensure_ascii=False)
        for key, value in figures.items()
    }
    return (
        "{\n" + ",\n".join(f'"{key}": {text}' for key, text in parts.items()) + "\n}\n"
    )


def _lines(items: list[Any]) -> str:
    return (
        "[\n"
        + ",\n".join(json.dumps(item, ensure_ascii=False) for item in items)
        + "\n]"
    )


def _markdown(figures: Published) -> Iterator[str]:
    names = {name: None for row in figures["rows"] for name in row["medians"]}
    yield from _table("", *(f"**{name}**" if name == OURS else name for name in names))
    for row in figures["rows"]:
        medians, better = row["medians"], ", more is better" * row["more_is_better"]
        head = f"`{row['workload']}`: {row['metric']}, {row['unit']}{better}"
        yield _line(head, *(_cell(medians, name) for name in names))
    yield ""
    for note, workloads in figures["notes"].items():
        yield f"- {note} ({', '.join(workloads)})"
    yield ""
    yield from _table("target", "measured", "")
    for target, value, met in figures["targets"]:
        yield _line(target, f"{value:.3f}", met)
    yield ""
    machine = (f"{key} {value}" for key, value in figures["machine"].items())
    yield f"Medians of {figures['rounds']} rounds, with {', '.join(machine)}:"
    yield ""
    yield from (f"- {name}: {text}" for name, text in figures["versions"].items())


def _cell(medians: dict[str, float], name: str) -> str:
    """A median, and its ratio to SSLStream's."""
    if name not in medians:
        return NONE
    median, baseline = medians[name], medians.get(BASELINE)
    ratio = f" ({times(median / baseline)})" if baseline else ""
    return f"{number(median)}{ratio}"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _table(*heads: str) -> Iterator[str]:
    yield _line(*heads)
    yield f"|---{'|--:' * (len(heads) - 1)}|"


def read(page: Path) -> Published:
    """The figures that `write` has put beside *page*."""
    figures: Published = json.loads(page.with_suffix(".json").read_text("utf-8"))
    return figures


def check(page: Path) -> None:
    """Raises ValueError if *page* has no place for figures."""
    _, begin, rest = page.read_text("utf-8").partition(BEGIN)
    if not begin or END not in rest:
        raise ValueError(f"{page} has no lines {BEGIN.strip()} and {END.strip()}")


def with_figures(page: str, figures: Published) -> str:
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    text = "\n".join(_markdown(figures))
    return f"{before}{BEGIN}\n{text}\n\n{END}{after}"


def write(page: Path, results: Results) -> None:
    """Put the figures into *page*, and JSON and a picture into files of the same name."""
    figures = published(results)
    page.with_suffix(".json").write_text(as_text(figures), "utf-8")
    page.write_text(with_figures(page.read_text("utf-8"), figures), "utf-8")
    draw(figures, page.with_suffix(".svg"))


def source(figures: Published) -> str:
    """What a picture says about the figures that it was made from."""
    digest = hashlib.sha256(json.dumps(figures, sort_keys=True).encode())
    return f"figures {digest.hexdigest()}"


def draw(figures: Published, file: Path) -> None:
    """How many times as good as SSLStream each one is, in each row."""
    # It takes long to load, and the rest does not need it.
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    labels: list[str] = []
    points: dict[str, tuple[list[float], list[int]]] = {}
    for row in figures["rows"]:
        medians = row["medians"]
        if (baseline := medians.get(BASELINE)) is None or len(medians) < 2:
            continue
        for name, median in medians.items():
            good = median / baseline if row["more_is_better"] else baseline / median
            xs, ys = points.setdefault(name, ([], []))
            xs.append(good)
            ys.append(len(labels))
        labels.append(f"{row['workload']}: {row['metric']}")
    points.pop(BASELINE, None)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 0.3 * len(labels) + 1.6), layout="constrained")
        axes = figure.subplots()
        axes.axvline(1, color="#4a4e69", linewidth=1.4, zorder=1, label=BASELINE)
        for index, (name, (xs, ys)) in enumerate(points.items()):
            known = IMPLEMENTATIONS.get(name)
            if known is not None and known.yardstick:
                style = {"marker": "|", "s": 170, "color": "#22223b", "zorder": 2}
            elif name == OURS:
                style = {"marker": "o", "s": 75, "color": "#0b6e4f", "zorder": 4}
            else:
                style = {"marker": "PsD^vX<>ph*"[index % 11], "s": 34, "zorder": 3}
            axes.scatter(xs, ys, label=name, **style)  # type: ignore[arg-type]
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.grid(color="#e5e7ec", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.set_title(f"Times as good as {BASELINE}: further right is better")
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=5, frameon=False
        )
        figure.savefig(file, metadata={"Date": None, "Source": source(figures)})
