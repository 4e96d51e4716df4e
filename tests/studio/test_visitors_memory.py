"""How much memory of the server visitors can take."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from PIL import Image

from tests.studio.requests import META, png, post, upload

SERVE = """
import sys, pathlib
from siamese.studio.server import Studio
from siamese.studio.backend.queue import ModelWorker
from siamese.records.catalogue import find_models
studio = Studio(ModelWorker(find_models("nowhere", None)), pathlib.Path(sys.argv[1]), "127.0.0.1")
print("at", studio.address, flush=True)
sys.stdin.read()
studio.close()
"""
PHOTOS = int(os.environ.get("PHOTOS", 4))


class TestMemory:
    """Of a server in a process of its own, by the system's account of its highest use."""

    @pytest.fixture(scope="class")
    def server(self, tmp_path_factory) -> Iterator[tuple[str, int]]:
        environment = os.environ | {
            "GRADIO_TEMP_DIR": str(tmp_path_factory.mktemp("temporary")),
            "OMP_NUM_THREADS": "1",
        }
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(tmp_path_factory.mktemp("data"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).resolve().parents[2],
        )
        yield next(line for line in process.stdout if line.startswith("at ")).split()[1], process.pid
        process.stdin.close()
        assert process.wait(60) == 0

    @staticmethod
    def highest(pid: int) -> float:
        """MB."""
        return next(
            int(line.split()[1]) / 1024
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if line.startswith("VmHWM")
        )

    @staticmethod
    def function(client: httpx2.Client, first: str) -> tuple[int, list]:
        """A server function whose first input has an elem_id, or is of a type, and its inputs."""
        config = client.get("/config").json()
        parts = {c["id"]: c for c in config["components"]}
        return next(
            (d["id"], [parts[i]["type"] for i in d["inputs"]])
            for d in config["dependencies"]
            if d["backend_fn"]
            and d["inputs"]
            and first in (parts[d["inputs"][0]]["props"].get("elem_id"), parts[d["inputs"][0]]["type"])
        )

    @pytest.mark.slow
    def test_huge_layers_and_numbers(self, server):
        address, pid = server
        with httpx2.Client(base_url=address, timeout=60) as client:
            client.get("/")
            number, inputs = self.function(client, "canvas")
            before = self.highest(pid)
            layer = {"path": upload(client, png(12000, 12000)), "meta": META}
            small = {"width": 8, "height": 8, "bits": "//////////8="}
            for value, status in (
                (small | {"photo": layer}, 413),
                ({"width": 60_000_000, "height": 60_000_000, "bits": "AA=="}, 422),
                ({"width": 12_000, "height": 12_000, "bits": "A" * 2**20}, 422),
            ):
                reply = post(client, "run/predict", number, [value] + [None] * (len(inputs) - 1))
                assert reply.status_code == status, reply.text
            assert self.highest(pid) - before < 200

    @pytest.mark.slow
    def test_photos_of_many_sessions(self, server):
        address, pid = server
        photo = io.BytesIO()
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8).repeat(64, 0).repeat(64, 1)
        Image.fromarray(noise).save(photo, "JPEG")
        before, failed = self.highest(pid), []

        def visit(number: int) -> None:
            with httpx2.Client(base_url=address, timeout=200) as client:
                client.get("/")
                index, inputs = self.function(client, "file")
                file = {"path": upload(client, photo.getvalue(), "photo.jpg"), "meta": META}
                reply = post(client, "run/predict", index, [file] + [None] * (len(inputs) - 1), f"s{number}")
                if reply.status_code != 200 or "Trace the lesion" not in reply.text:
                    failed.append(reply.text)

        visits = [threading.Thread(target=visit, args=(number,)) for number in range(PHOTOS)]
        for thread in visits:
            thread.start()
        for thread in visits:
            thread.join()
        assert not failed, json.dumps(failed[:1])[:500]
        grown = self.highest(pid) - before
        print(f"{PHOTOS} photos: {grown:.0f} MB")
        assert (
            grown < 300 + 400 / 30 * PHOTOS
        )  # 700 MB of 30; the first ones load what is needed to read them
