from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.measure import Bench


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """With certificates of its own."""
    folder: Path = tmp_path_factory.mktemp("bench")
    return Bench(folder)
