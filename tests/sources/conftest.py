"""Servers that the tests of sources share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sources import postgres_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgres_server.Server]:
    """Give a PostgreSQL server that is started once."""
    with postgres_server.running() as server:
        yield server


@pytest.fixture
def ledgers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep ledgers of tables of a database in a folder of the test's own."""
    folder = tmp_path / "ledgers"
    folder.mkdir()
    monkeypatch.setenv("DPSYNTH_LEDGERS", str(folder))
    return folder
