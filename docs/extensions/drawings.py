"""Sphinx directives that draw what the code says, at each build.

- ``swimlane``: a scenario of `trio-tlsdown demo`, from what it printed once:
  ``COLUMNS=60 trio-tlsdown demo --tls 1.3 >docs/demo.txt``. It fits a phone.
- ``states``: a state machine of `trio_tlsdown._core.state`, from its tables.
- ``outcomes``: the table that the outcome is looked up in.
- ``imports``: the modules of the package, and what each imports.
- ``behaviours``: the rogue peers of the test kit.
- ``command-help``: what ``trio-tlsdown COMMAND --help`` prints.

`_core.state` is private. Its tables are read here because the page that they are on is
about how the package works inside; everything else is public.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import grimp
from docutils import nodes
from sphinx import addnodes
from sphinx.ext.graphviz import graphviz
from sphinx.util.docutils import SphinxDirective

from trio_tlsdown._core.state import OUTCOMES, TRANSITIONS, ConnectionState
from trio_tlsdown.testing import BEHAVIOURS

if TYPE_CHECKING:
    import enum

    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

DEMO = Path(__file__).parents[1] / "demo.txt"
PACKAGE = "trio_tlsdown"
COMMAND = Path(sys.executable).with_name("trio-tlsdown")


class Swimlane(SphinxDirective):
    """One scenario, by its name, such as 4a."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        self.env.note_dependency(str(DEMO))
        heading = f"^Scenario {self.arguments[0]}, .*?\n\n"
        drawing = re.compile(heading + "(.*?)\n\n", re.DOTALL | re.MULTILINE)
        if (found := drawing.search(DEMO.read_text("utf-8"))) is None:
            raise self.error(f"{DEMO.name} has no scenario {self.arguments[0]}")
        block = nodes.literal_block(found[1], found[1], language="text")
        return [nodes.container("", block, classes=["swimlane"])]


class States(SphinxDirective):
    """One of the three machines: sending, receiving or local."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        node = graphviz()
        node["code"] = state_diagram(self.arguments[0])
        node["options"] = {"docname": self.env.docname}
        node["alt"] = f"the machine '{self.arguments[0]}'"
        return [node]


def state_diagram(machine: str) -> str:
    """The machine in Graphviz's language, events that do the same in one arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for event, transitions in TRANSITIONS.items():
        for before, after in getattr(transitions, machine).items():
            arrows.setdefault((before.name, after.name), []).append(event.name)
    start = getattr(ConnectionState(lambda _: None), machine).name
    lines = [f"start [shape=point]; start -> {start};"]
    for (before, after), events in arrows.items():
        label = "\\n".join(_words(event) for event in events)
        lines.append(f'{before} -> {after} [label="{label}"];')
    states = {name for pair in arrows for name in pair}
    lines += [f'{state} [label="{_words(state)}"];' for state in sorted(states)]
    return _graph(machine, lines)


def _words(name: str) -> str:
    return name.lower().replace("_", " ").replace("close notify", "close_notify")


def _graph(name: str, lines: list[str]) -> str:
    style = (
        'rankdir=LR; bgcolor=transparent; node [shape=box, style="rounded,filled", '
        'fillcolor=white, fontname="sans-serif", fontsize=11]; '
        'edge [fontname="sans-serif", fontsize=9];'
    )
    return f"digraph {name} {{ {style} {' '.join(lines)} }}"


class Outcomes(SphinxDirective):
    """The table in which the outcome is looked up, first match first."""

    def run(self) -> list[nodes.Node]:
        rows = [["Sending", "Receiving", "This side", "Outcome"]]
        for *states, outcome in OUTCOMES:
            rows.append(
                [*map(_state, states), f"`~{PACKAGE}.ShutdownOutcome.{outcome.name}`"]
            )
        text = [".. list-table::", "   :header-rows: 1", ""]
        for row in rows:
            text += [
                f"   {'*' if n == 0 else ' '} - {cell}" for n, cell in enumerate(row)
            ]
        return self.parse_text_to_nodes(_rst(text))


def _rst(lines: list[str]) -> str:
    return "\n".join(["```{eval-rst}", *lines, "```"])


def _state(state: enum.Enum | None) -> str:
    return "any" if state is None else _words(state.name)


class Behaviours(SphinxDirective):
    """Each way in which a rogue peer misbehaves."""

    def run(self) -> list[nodes.Node]:
        text = [".. currentmodule:: trio_tlsdown.testing", ""]
        for behaviour in BEHAVIOURS.values():
            described = behaviour.description.replace("\n", "\n    ")
            text += [f"``{behaviour.name}``", f"    {described}", ""]
        return self.parse_text_to_nodes(_rst(text))


class CommandHelp(SphinxDirective):
    """What a subcommand of `trio-tlsdown` prints for ``--help``."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        command = [COMMAND, *self.arguments[0].split(), "--help"]
        found = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        return [nodes.literal_block(found.stdout, found.stdout, language="text")]


class Imports(SphinxDirective):
    """What each module of a folder imports of the folder, or each folder of the others."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        node = graphviz()
        node["code"] = import_graph(self.arguments[0] if self.arguments else "")
        node["options"] = {"docname": self.env.docname}
        node["alt"] = "what imports what"
        return [node]


def import_graph(folder: str) -> str:
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    root = f"{PACKAGE}.{folder}" if folder else PACKAGE
    children = graph.find_children(root)
    if not folder:
        children -= {f"{PACKAGE}.__main__", f"{PACKAGE}._version"}
    lines = []
    for module in sorted(children):
        graph.squash_module(module)
    for module in sorted(children):
        lines.append(f'"{module}" [label="{module.rpartition(".")[2]}"];')
        imported = graph.find_modules_directly_imported_by(module) & children
        lines += [f'"{module}" -> "{one}";' for one in sorted(imported - {module})]
    return _graph("imports", lines).replace("rankdir=LR", "rankdir=TB")


def keep_colons(
    _app: Sphinx,
    what: str,
    _name: str,
    _obj: object,
    _options: object,
    lines: list[str],
) -> None:
    """Undo that napoleon takes an attribute's words before a colon for its type."""
    if what not in {"attribute", "property", "data"}:
        return
    for number, line in enumerate(lines):
        if line.startswith(":type: "):
            lines[0] = f"{line.removeprefix(':type: ')}: {lines[0]}"
            del lines[number - 1 : number + 1]
            return


def find_in_package(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, text: nodes.Element
) -> nodes.Element | None:
    """In the docstrings of the test kit, `TLSStream` is that of the package."""
    target = node.get("reftarget", "")
    if node.get("refdomain") != "py":
        return None
    domain = env.get_domain("py")
    return domain.resolve_xref(
        env, node["refdoc"], app.builder, "obj", f"{PACKAGE}.{target}", node, text
    )


def show_names(app: Sphinx, doctree: nodes.document) -> None:
    """A link to what is outside docs/ is for readers of the repository: keep its words."""
    root = app.srcdir.parent
    for link in list(doctree.findall(addnodes.pending_xref)):
        target = link["reftarget"]
        paths = (Path(doctree["source"]).parent / f"{target}.md", root / target)
        if link.get("reftype") == "myst" and any(
            path.exists() and app.srcdir not in path.resolve().parents for path in paths
        ):
            link.replace_self(link.children)


def strip_blocks(_app: Sphinx, doctree: nodes.document) -> None:
    """Remove the empty lines that a part of a file ends with."""
    for block in doctree.findall(nodes.literal_block):
        block.rawsource = block.astext().rstrip("\n")  # or it is not highlighted
        block[:] = [nodes.Text(block.rawsource)]


def setup(app: Sphinx) -> dict[str, object]:
    app.add_directive("swimlane", Swimlane)
    app.add_directive("states", States)
    app.add_directive("outcomes", Outcomes)
    app.add_directive("imports", Imports)
    app.add_directive("behaviours", Behaviours)
    app.add_directive("command-help", CommandHelp)
    app.connect("autodoc-process-docstring", keep_colons, priority=900)
    app.connect("missing-reference", find_in_package)
    app.connect("doctree-read", show_names)
    app.connect("doctree-read", strip_blocks)
    return {"version": "1", "parallel_read_safe": True}
