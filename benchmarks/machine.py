"""Where the figures come from."""

from __future__ import annotations

import datetime as dt
import os
import platform
import re
import shutil
import ssl
import subprocess
from pathlib import Path

import trio_tlsdown


def commit_of(folder: Path) -> str | None:
    """The commit that is checked out there, and whether a file was changed since."""
    git = shutil.which("git")
    if git is None or not (folder / ".git").exists():  # that of a tree around it is not
        return None
    done = subprocess.run(  # noqa: S603 - found by us
        [git, "-C", folder, "describe", "--always", "--dirty=, changed", "--exclude=*"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"commit {done.stdout.strip()}" if done.returncode == 0 else None


def describe() -> dict[str, str]:
    processor = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    machine = {
        "date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": processor[1] if processor else platform.machine(),
        "cores": str(os.cpu_count()),
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "OpenSSL": ssl.OPENSSL_VERSION,
    }
    if commit := commit_of(Path(trio_tlsdown.__file__).parent.parent):
        machine["trio_tlsdown"] = commit
    return machine
