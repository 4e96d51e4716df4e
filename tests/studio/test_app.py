"""``python app.py`` as a user starts and stops it."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

APP = Path(__file__).resolve().parents[2] / "app.py"


def start(data: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", str(APP), "--port", "0", "--data", str(data), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_serves_the_page_and_ends_cleanly(tmp_path, end):
    app = start(tmp_path)
    try:
        address = next(line for line in app.stdout if " is at http" in line).split()[-1]
        with urllib.request.urlopen(address, timeout=30) as reply:
            assert "Siamese-Diffusion Studio" in reply.read().decode()
        # A page that is still open holds such a stream.
        with urllib.request.urlopen(f"{address}/gradio_api/heartbeat/visitor", timeout=30) as stream:
            assert stream.read(1)
            app.send_signal(end)
            printed, complaints = app.communicate(timeout=30)
    finally:
        app.kill()
    assert app.returncode == 0
    assert printed == "Stopping.\n"
    assert "Traceback" not in complaints, complaints
    assert "ERROR" not in complaints, complaints
    assert "alembic" not in complaints, complaints


@pytest.mark.slow
def test_a_data_folder_that_could_be_served_is_refused():
    app = start(Path("kept"))
    printed, complaints = app.communicate(timeout=60)
    assert app.returncode == 1
    assert not printed
    assert "choose a --data folder elsewhere" in complaints
    assert "Traceback" not in complaints
