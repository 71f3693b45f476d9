"""The end of a test run: each reason to skip once, and the result in a sentence."""

from __future__ import annotations

from collections import Counter

import pytest

SENTENCE = pytest.StashKey[str]()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    number = {
        category: len(terminalreporter.stats.get(category, []))
        for category in ("passed", "skipped", "failed", "error")
    }
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2] for report in skipped)
    for reason, times in reasons.most_common():
        told = reason.removeprefix("Skipped: ")
        if told == "Skipped":
            told = "async tests, of which pytest-trio does not tell the reason"
        terminalreporter.line(f"SKIPPED {times:5,}: {told}")
    config = terminalreporter.config
    told = in_a_sentence(**number, chosen=bool(config.getoption("markexpr")))
    config.stash[SENTENCE] = told


def pytest_unconfigure(config: pytest.Config) -> None:
    # Behind pytest's closing line. Without a summary there was no run: a worker's.
    sentence = config.stash.get(SENTENCE, "")
    config.get_terminal_writer().write(sentence)


def in_a_sentence(
    *, passed: int, skipped: int, failed: int, error: int, chosen: bool
) -> str:
    """The result of a run.

    Args:
      passed: How many tests passed.
      skipped: How many were skipped.
      failed: How many failed.
      error: How many failed in a fixture.
      chosen: Whether some were left out by their mark.
    """
    bad = failed + error
    if not passed + skipped + bad:
        return ""
    if bad:
        return f"{bad:,} of {passed + bad:,} tests failed: see above.\n"
    told = [f"{passed:,} tests passed, none failed."]
    if skipped:
        told.append(
            f"{skipped:,} need what is not installed here (see above): `make peers`"
            " and the Debian packages in .ci/run bring it."
        )
    if chosen:
        told.append("The long ones are for `make check`.")
    return " ".join(told) + "\n"
