"""Results as people read them, from observations that are written down here."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

import pytest

from trio_tlsdown import TraceEvent, TraceKind
from trio_tlsdown.cli._paper import ASCII, Paper
from trio_tlsdown.cli.probe._checks import judge
from trio_tlsdown.cli.probe._observe import Ending, Experiment, Observation
from trio_tlsdown.cli.probe._resembles import resembles
from trio_tlsdown.cli.probe._results import HostResult, VersionResult, as_json
from trio_tlsdown.cli.probe._summary import Summary
from trio_tlsdown.cli.probe._targets import Target
from trio_tlsdown.cli.probe._text import full
from trio_tlsdown.cli.probe._witness import TransportEnd

README = Path(__file__).parents[2] / "README.md"


def observation(experiment: Experiment, **facts: Any) -> Observation:
    return Observation(experiment=experiment, seconds=1.0, **facts)


def nginx() -> HostResult:
    """What nginx 1.22 did on TLS 1.3."""
    goodbye = {"ending": Ending.CLOSE_NOTIFY, "tcp": TransportEnd.FIN}
    seen = {
        each.experiment: each
        for each in (
            observation(
                Experiment.IDLE,
                ours=0.2,
                ended=0.2011,
                ending=Ending.FIN,
                events=(TraceEvent(0.2, "client", TraceKind.CLOSE_NOTIFY_SENT),),
            ),
            observation(
                Experiment.GOODBYE, ended=0.1, data_before=160, whole=True, **goodbye
            ),
        )
    }
    version = VersionResult(
        tls="1.3",
        cipher="TLS_AES_256_GCM_SHA384",
        findings=judge("1.3", seen),
        seen=seen,
        resembles=resembles(seen),
    )
    return HostResult(
        target=Target("localhost", 8443),
        protocol="http",
        began=dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        seconds=1.0,
        address="127.0.0.1",
        banner="nginx/1.22.1",
        insecure=False,
        versions=(version,),
    )


def test_the_readme_shows_what_the_probe_prints() -> None:
    command = "$ trio-tlsdown probe --tls 1.3 localhost:8443\n"
    shown = README.read_text("utf-8").partition(command)[2].partition("```")[0]
    summary = Summary()
    summary.add(as_json(nginx()))
    lines = [text.plain for text in full(nginx(), Paper(), swimlanes=False)]
    printed = "\n".join([*lines, *summary.lines(), ""])
    parts = shown.split("...\n")
    assert len(parts) > 1
    wanted = ".*".join(re.escape(part) for part in parts)
    assert re.fullmatch(wanted, printed, re.DOTALL), printed


@pytest.mark.parametrize("paper", [Paper(), Paper(glyphs=ASCII)])
def test_a_drawing_says_what_its_dots_are(paper: Paper) -> None:
    def printed(*, swimlanes: bool) -> str:
        lines = full(nginx(), paper, swimlanes=swimlanes)
        return "\n".join(text.plain for text in lines)

    legend = f"  {paper.glyphs.dots}: when it reached, or left, the server is not known"
    assert printed(swimlanes=True).splitlines()[1] == legend
    assert printed(swimlanes=True).count(paper.glyphs.dots) == 2
    assert paper.glyphs.dots not in printed(swimlanes=False)
