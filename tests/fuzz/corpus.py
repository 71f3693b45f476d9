"""The inputs that fuzzing begins with: one a line, in hex; # begins a remark."""

from __future__ import annotations

from pathlib import Path


def file_of(target: str) -> Path:
    return Path(__file__).parent / "corpus" / f"{target}.txt"


def load(target: str) -> list[bytes]:
    lines = file_of(target).read_text("ascii").splitlines()
    return [bytes.fromhex(line.partition("#")[0]) for line in lines]
