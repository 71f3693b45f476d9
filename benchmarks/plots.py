"""The results as pictures, from their JSON: an overview, each workload, the growth."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from .stacks import BASELINE, OURS, STACKS
from .tables import number

OURS_COLOUR: Final = "#0b6e4f"
BASELINE_COLOUR: Final = "#4a4e69"
OTHER_COLOUR: Final = "#b8bdc9"
SPREAD_COLOUR: Final = "#22223b"
STYLE: Final[dict[Any, Any]] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 11,
    "font.family": "sans-serif",
    "font.size": 9.5,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "trio_tlsdown",  # the same picture for the same figures
}


def draw(found: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write SVG files into *folder*, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {}
    with mpl.rc_context(STYLE):
        for workload in found["workloads"]:
            if any(each["figures"] for each in workload["stacks"].values()):
                pictures[workload["name"]] = _workload(workload)
        if overview := _overview(found):
            pictures["overview"] = overview
        for metric in dict.fromkeys(row["metric"] for row in found["growth"]):
            rows = [row for row in found["growth"] if row["metric"] == metric]
            pictures[f"growth-{metric.replace(' ', '-')}"] = _growth(metric, rows)
        files = []
        for name, picture in pictures.items():
            file = folder / f"{name}.svg"
            _save(picture, file, found)
            files.append(file)
    return files


def draw_overview(found: Mapping[str, Any], file: Path) -> None:
    with mpl.rc_context(STYLE):
        if overview := _overview(found):
            _save(overview, file, found)


def source(found: Mapping[str, Any]) -> str:
    """What a picture says about the figures that it was drawn from."""
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode())
    return f"figures {digest.hexdigest()}"


def _save(picture: Figure, file: Path, found: Mapping[str, Any]) -> None:
    picture.savefig(file, metadata={"Date": None, "Source": source(found)})


def _colour(stack: str) -> str:
    return {OURS: OURS_COLOUR, BASELINE: BASELINE_COLOUR}.get(stack, OTHER_COLOUR)


def _own_colour(stack: str) -> str:
    """Where each stack has one."""
    if stack in {OURS, BASELINE}:
        return _colour(stack)
    return f"C{list(STACKS).index(stack)}" if stack in STACKS else "black"


def _workload(workload: Mapping[str, Any]) -> Figure:
    """Bars for each figure, with the quartiles of the rounds."""
    stacks = {
        name: outcome["figures"]
        for name, outcome in workload["stacks"].items()
        if outcome["figures"]
    }
    metrics = list(next(iter(stacks.values())))
    figure = Figure(
        figsize=(3.1 * len(metrics) + 1.5, 0.34 * len(stacks) + 1.3),
        layout="constrained",
    )
    figure.suptitle(workload["title"], x=0.01, ha="left", weight="bold", size=12)
    panels: Sequence[Axes] = figure.subplots(
        1, len(metrics), sharey=True, squeeze=False
    )[0]
    for axes, metric in zip(panels, metrics, strict=True):
        _bars(axes, metric, stacks)
    return figure


def _bars(axes: Axes, metric: str, stacks: Mapping[str, Mapping[str, Any]]) -> None:
    names = list(stacks)
    figures = [stacks[name][metric] for name in names]
    medians = [figure["median"] for figure in figures]
    spread = [
        [figure["median"] - figure["quartiles"][0] for figure in figures],
        [figure["quartiles"][1] - figure["median"] for figure in figures],
    ]
    axes.barh(
        names, medians, height=0.68, color=[_colour(name) for name in names],
        xerr=spread, error_kw={"ecolor": SPREAD_COLOUR, "elinewidth": 1, "capsize": 2},
    )  # fmt: skip
    top = max(figure["quartiles"][1] for figure in figures)
    for place, figure in enumerate(figures):
        axes.annotate(
            number(figure["median"]), (figure["quartiles"][1], place),
            xytext=(5, 0), textcoords="offset points", va="center", size=8.5,
        )  # fmt: skip
    better = "more" if figures[0]["higher_is_better"] else "less"
    axes.set_title(f"{metric}, {figures[0]['unit']} ({better} is better)",
                   weight="normal", size=9.5)  # fmt: skip
    axes.set_xlim(0, top * 1.22)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.4, -0.6)  # the first on top


def _overview(found: Mapping[str, Any]) -> Figure | None:
    """How good all are beside SSLStream, in each workload's headline."""
    points: list[tuple[str, str, float]] = []
    labels = []
    for workload in found["workloads"]:
        label = f"{workload['name']}, {workload['headline']}"
        for stack, outcome in workload["stacks"].items():
            figure = outcome["figures"].get(workload["headline"])
            if figure and (ratio := figure["to_sslstream"]):
                good = ratio if figure["higher_is_better"] else 1 / ratio
                points.append((label, stack, good))
        if points and points[-1][0] == label:
            labels.append(label)
    if not points:
        return None
    figure = Figure(figsize=(8.6, 0.42 * len(labels) + 1.6), layout="constrained")
    axes = figure.subplots()
    axes.axvline(1, color=BASELINE_COLOUR, linewidth=1.4, zorder=1, label=BASELINE)
    stacks = list(dict.fromkeys(stack for _, stack, _ in points))
    markers = iter("PsD^vX<>ph*")
    for stack in stacks:
        if stack == BASELINE:
            continue
        own = [(good, label) for label, name, good in points if name == stack]
        places = [good for good, _ in own], [labels.index(label) for _, label in own]
        if stack in found["yardsticks"]:
            axes.scatter(
                *places, label=f"{stack} (a yardstick)", marker="|", s=170, zorder=2,
                color=SPREAD_COLOUR, linewidths=1.4,
            )  # fmt: skip
            continue
        ours = stack == OURS
        axes.scatter(
            *places,
            label=stack,
            marker="o" if ours else next(markers),
            s=75 if ours else 34,
            zorder=4 if ours else 3,
            color=_own_colour(stack),
            alpha=1 if ours else 0.75,
            linewidths=0,
        )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="both", color="#e5e7ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_title(f"Times as good as {BASELINE}: further right is better")
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=5, frameon=False,
        handletextpad=0.2, columnspacing=1.2,
    )  # fmt: skip
    return figure


def _growth(metric: str, rows: Sequence[Mapping[str, Any]]) -> Figure:
    """What all connections together cost, over their number."""
    figure = Figure(figsize=(8.6, 4.2), layout="constrained")
    axes = figure.subplots()
    sizes: list[int] = []
    for row in sorted(rows, key=lambda row: -max(row["costs"].values())):
        sizes = [int(count) for count in row["costs"]]
        axes.plot(
            sizes, list(row["costs"].values()), marker="o", markersize=4,
            color=_own_colour(row["stack"]),
            linewidth=2.4 if row["stack"] == OURS else 1.2,
            zorder=3 if row["stack"] == OURS else 2,
            label=f"{row['stack']}, exponent {row['exponent']:.2f}",
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(color="#e5e7ec", linewidth=0.8, which="both")
    axes.set_xlabel("connections")
    unit = rows[0]["unit"].removesuffix(" each")
    axes.set_ylabel(f"{metric} of all, {unit}")
    axes.set_title(f"Growth of {metric}")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    return figure
