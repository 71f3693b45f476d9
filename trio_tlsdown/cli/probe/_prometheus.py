"""Results as metrics, for the textfile collector of Prometheus' node_exporter.

Metrics of one name have to stand together, so they are kept to the end: a few kilobytes
for each host.
"""

from __future__ import annotations

from typing import Final, TextIO

from ._observe import Experiment
from ._results import HostResult

METRICS: Final = {
    "tlsdown_probe_reachable": "Whether there was a TLS session of any version.",
    "tlsdown_probe_check": "1, with the verdict of the check as a label.",
    "tlsdown_probe_answer_seconds": "From our close_notify to the server's.",
    "tlsdown_probe_seconds": "How long it took to probe the host.",
    "tlsdown_probe_timestamp_seconds": "When that began.",
}


class PrometheusReport:
    """Keeps the metrics, and writes them at the end.

    Args:
      file: Where to write.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._samples: dict[str, list[str]] = {name: [] for name in METRICS}

    def add(self, result: HostResult) -> None:
        """Keep the metrics of a result."""
        host = {"target": str(result.target), "protocol": result.protocol}
        self._sample("tlsdown_probe_reachable", host, int(result.reachable))
        self._sample("tlsdown_probe_seconds", host, round(result.seconds, 3))
        self._sample(
            "tlsdown_probe_timestamp_seconds", host, int(result.began.timestamp())
        )
        for version in result.versions:
            labels = {**host, "tls": version.tls}
            for check_id, finding in version.findings.items():
                self._sample(
                    "tlsdown_probe_check",
                    {**labels, "check": check_id, "verdict": finding.verdict.value},
                    1,
                )
            seen = version.seen.get(Experiment.IDLE)
            if seen and seen.ours is not None and seen.theirs is not None:
                delay = round(max(seen.theirs - seen.ours, 0.0), 6)
                self._sample("tlsdown_probe_answer_seconds", labels, delay)

    def _sample(self, name: str, labels: dict[str, str], value: float) -> None:
        pairs = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        self._samples[name].append(f"{name}{{{pairs}}} {value}\n")

    def finish(self) -> None:
        """Write all of them."""
        for name, meaning in METRICS.items():
            self._file.write(f"# HELP {name} {meaning}\n# TYPE {name} gauge\n")
            self._file.writelines(self._samples[name])


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
