"""What many results come to; the results are those of ``--json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import attrs

from ._checks import CHECKS, Verdict
from ._contexts import VERSIONS

VERDICTS: Final = tuple(verdict.value for verdict in Verdict)


@attrs.define
class Summary:
    """Counts results."""

    hosts: int = 0
    unreachable: int = 0
    by_verdict: Counter[str] = attrs.field(factory=Counter[str])
    """Hosts that could be reached, by their worst verdict."""

    by_check: Counter[tuple[str, str, str]] = attrs.field(
        factory=Counter[tuple[str, str, str]]
    )
    """Servers, by check, TLS version and verdict."""

    resembles: Counter[str] = attrs.field(factory=Counter[str])
    """Servers, by the behaviour that they resemble; once for each TLS version."""

    def add(self, result: Mapping[str, Any]) -> None:
        """Count a result, as `as_json` has it.

        Raises:
          KeyError: it is none. The same goes for TypeError.
        """
        self.hosts += 1
        if not result["reachable"]:
            self.unreachable += 1
        else:
            self.by_verdict[result["verdict"]] += 1
        for version in result["versions"]:
            if version["resembles"]:
                self.resembles[version["resembles"]] += 1
            for check in version["checks"]:
                self.by_check[check["id"], version["tls"], check["verdict"]] += 1

    @property
    def exit_code(self) -> int:
        """1: something failed; 3: a host could not be reached; 0: else."""
        if self.by_verdict["fail"]:
            return 1
        return 3 if self.unreachable else 0

    def as_json(self) -> dict[str, Any]:
        """The counts, in terms that JSON has."""
        return {
            "hosts": self.hosts,
            "unreachable": self.unreachable,
            "verdicts": {name: self.by_verdict[name] for name in VERDICTS},
            "checks": [
                {
                    "id": check.id,
                    "tls": version,
                    **{
                        name: self.by_check[check.id, version, name]
                        for name in VERDICTS
                    },
                }
                for check in CHECKS
                for version in VERSIONS
                if any(self.by_check[check.id, version, name] for name in VERDICTS)
            ],
            "resembles": dict(self.resembles.most_common()),
        }

    def lines(self) -> list[str]:
        """The counts, for people."""
        counts = {name: self.by_verdict[name] for name in VERDICTS}
        counts["unreachable"] = self.unreachable
        words = [f"{count} {name}" for name, count in counts.items() if count]
        noun = "host" if self.hosts == 1 else "hosts"
        lines = [f"{self.hosts} {noun}: {', '.join(words) or 'no verdict'}"]
        if self.hosts < 2:
            return lines
        width = max(len(check.id) for check in CHECKS)
        heads = "".join(name.rjust(7) for name in VERDICTS)
        lines.append(f"{'check'.ljust(width)}  TLS{heads}")
        for row in self.as_json()["checks"]:
            cells = "".join(str(row[name]).rjust(7) for name in VERDICTS)
            lines.append(f"{row['id'].ljust(width)}  {row['tls']}{cells}")
        lines += [
            f"Ends like the rogue {name}: {count}"
            for name, count in self.resembles.most_common()
        ]
        return lines
