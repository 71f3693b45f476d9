"""The inputs that fuzzing begins with: one a line, in hex; # begins a remark."""

from __future__ import annotations

from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).with_name("corpus")


def load(target: str) -> list[bytes]:
    text = (FOLDER / f"{target}.txt").read_text("ascii")
    return [bytes.fromhex(line.partition("#")[0]) for line in text.splitlines()]


def add(target: str, inputs: list[bytes]) -> None:
    new = sorted(set(inputs) - set(load(target)), key=len)
    with (FOLDER / f"{target}.txt").open("a", encoding="ascii") as file:
        file.writelines(f"{data.hex()}\n" for data in new)
