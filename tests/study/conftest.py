"""What all tests of the studies share."""

from __future__ import annotations

from pathlib import Path

import pytest

from siamese.study.storage import mounts


@pytest.fixture(autouse=True)
def unknown_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run in temporary folders, which lie in memory on some machines: a study there would have to be accepted before it opens."""
    monkeypatch.setattr(mounts, "MOUNTINFO", Path("/nonexistent/mountinfo"))
