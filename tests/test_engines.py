"""Whether tests whose engine is missing are skipped or fail."""

import pytest
from engines import REQUIRED, missing


def test_a_missing_engine_skips_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where engines are required a test without one fails, with the reason."""
    monkeypatch.delenv(REQUIRED, raising=False)
    with pytest.raises(pytest.skip.Exception, match="no server"):
        missing("no server")
    monkeypatch.setenv(REQUIRED, "1")
    with pytest.raises(pytest.fail.Exception, match="no server, and DPSYNTH_REQUIRE_ENGINES"):
        missing("no server")
