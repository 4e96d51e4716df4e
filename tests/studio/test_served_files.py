"""No request makes the server open a path that is not the visitor's, and the temporary folder goes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import httpx2
import numpy as np
import pytest
from starlette.testclient import TestClient

from siamese.masks.packed import pack
from siamese.studio.visitors import upload_folder
from siamese.studio.visitors.cache import caching
from siamese.studio.visitors.upload_folder import TemporaryFolder
from tests.studio.requests import META, files_in, page_of, post, upload


class TestPaths:
    @pytest.fixture
    def hostile(
        self, studio, come, tmp_path
    ) -> Iterator[tuple[httpx2.Client, dict[str, dict], socket.socket]]:
        client, stranger = come(), come()
        canary = tmp_path / "canary.png"
        canary.write_bytes(b"the cookie key")
        os.mkfifo(tmp_path / "fifo")
        own, others = upload(client), upload(stranger)
        link = Path(own).parent / "link.png"
        link.symlink_to(canary)
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            listening.setblocking(False)
            url = f"http://127.0.0.1:{listening.getsockname()[1]}/photo.png"
            paths = {
                "canary": str(canary),
                "fifo": str(tmp_path / "fifo"),
                "device": "/dev/zero",
                "link": str(link),
                "proc": "/proc/self/environ",
                "url": url,
                "other": others,
                "roundabout": f"{Path(own).parent}/../{Path(own).parent.name}/{Path(own).name}",
                "relative": "README.md",
                "nul": "/etc/\0",
            }
            values = {name: {"path": path, "meta": META} for name, path in paths.items()}
            yield client, values | {"own path, url field": {"path": own, "url": url, "meta": META}}, listening

    @pytest.mark.slow
    @pytest.mark.parametrize("route", ["run/predict", "queue/join"])
    def test_no_event_takes_a_path_that_is_not_the_visitors(self, studio, hostile, route):
        client, values, listening = hostile
        before = files_in(studio._folder.path)
        functions = {n: f for n, f in page_of(studio).fns.items() if any(not c.stateful for c in f.inputs)}
        for number, function in functions.items():
            for name, value in values.items():
                shapes = [value, [value], {"background": None, "layers": [value], "composite": None}]
                reply = post(
                    client, route, number, [shapes[(number + i) % 3] for i in range(len(function.inputs))]
                )
                # 400 of a null character; 404 and 422 if the function is the browser's alone, or its input of another kind.
                assert reply.status_code in (400, 403, 404, 422), (
                    number,
                    name,
                    reply.text,
                )
                assert reply.json()["detail"].endswith("."), (
                    number,
                    name,
                    reply.text,
                )
        takes_files = [
            n
            for n, f in functions.items()
            if f.fn is not None and any(isinstance(c, gr.File | gr.HTML) for c in f.inputs)
        ]
        assert len(takes_files) > 4
        for number in takes_files:  # as the page sends it, but for the path
            for name, value in values.items():
                drawing = pack(np.full((8, 8), 255, np.uint8)) | {"photo": value}
                reply = post(
                    client,
                    route,
                    number,
                    [
                        drawing if isinstance(c, gr.HTML) else value if isinstance(c, gr.File) else None
                        for c in functions[number].inputs
                    ],
                )
                assert reply.status_code == (400 if name == "nul" else 403), (number, name, reply.text)
        assert files_in(studio._folder.path) == before
        with pytest.raises(BlockingIOError):
            listening.accept()
        assert client.get("/").status_code == 200

    @pytest.mark.slow
    def test_neither_does_gradio_if_the_guard_is_passed_by(self, studio, tmp_path):
        (tmp_path / "canary.png").write_bytes(b"the cookie key")
        before = files_in(studio._folder.path)
        gradio_app = studio._server._uvicorn.config.app.router.routes[-1].app.app
        number = next(
            n for n, f in page_of(studio).fns.items() if f.inputs and isinstance(f.inputs[0], gr.File)
        )
        data = [{"path": str(tmp_path / "canary.png"), "meta": META}] + [None] * 20
        reply = TestClient(gradio_app).post(
            "/gradio_api/run/predict", json={"fn_index": number, "data": data}
        )
        assert "not one that you uploaded" in reply.json()["error"]
        assert page_of(studio).has_launched
        assert files_in(studio._folder.path) == before

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "path",
        [
            "/etc/hostname",
            "/proc/self/environ",
            "README.md",
            "http://127.0.0.1:1/",
            "/etc/%00",
            "/..%2f" * 9 + "etc/hostname",
        ],
    )
    def test_no_file_of_the_server_is_served(self, come, path):
        assert come().get(f"/gradio_api/file={path}").status_code == (400 if "%00" in path else 403)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "path",
        [
            "deep_link?session_hash=mine",
            "proxy=http://127.0.0.1:1/",
            "stream/a/b/1/playlist.m3u8",
            "call/predict/1",
            "runs",
            "run-history/records",
            "vibe-code",
            "custom_component/a/client/component/x.js",
            "token",
            "user",
        ],
    )
    def test_routes_that_the_page_does_not_use_are_not_there(self, come, path):
        assert come().get(f"/gradio_api/{path}").status_code == 404

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "body",
        [
            '{"fn_index": NaN}',
            '{"fn_index": 1, "data": ["\\ud800"]}',
            "\udcff",
            "[" * 100_000,
            "[]",
            '{"fn_index": 1%s}' % ("0" * 400),
            '{"fn_index": 9999, "data": [], "session_hash": "mine"}',
            '{"fn_index": 1, "data": 5, "session_hash": "mine"}',
            '{"fn_index": 1, "data": [], "session_hash": 7}',
            '{"fn_index": {}, "data": [], "session_hash": "%s"}' % ("x" * 100),
        ],
    )
    def test_what_the_page_never_sends_is_refused_with_a_sentence(self, come, body):
        reply = come().post(
            "/gradio_api/run/predict",
            content=body.encode("utf-8", "surrogateescape"),
            headers={"content-type": "application/json"},
        )
        assert 400 <= reply.status_code < 500
        assert reply.json()["detail"].endswith(".")

    @pytest.mark.parametrize("ranges", ["bytes=1-2-3", "bytes=" + "9" * 5000 + "-"])
    def test_strange_ranges_are_no_trouble(self, come, ranges):
        client = come()
        assert (
            client.get(f"/gradio_api/file={upload(client)}", headers={"range": ranges}).content == b"a photo"
        )


class TestFolder:
    @pytest.fixture(autouse=True)
    def place(self, tmp_path, monkeypatch) -> Path:
        monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "place"))
        return tmp_path / "place"

    def test_it_is_its_owners_and_goes_at_the_end(self, place):
        made = TemporaryFolder()
        assert made.path.stat().st_mode & 0o777 == made.of("one").stat().st_mode & 0o777 == 0o700
        made.close()
        assert not made.path.exists()

    @pytest.mark.slow
    def test_what_a_killed_process_left_goes_with_the_next_start(self, place):
        code = (
            "from siamese.studio.visitors.upload_folder import *; import time; f = TemporaryFolder(); (f.of('x') / 'photo').touch();"
            "print(f.path, flush=True); time.sleep(60)"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
        ) as process:
            left = Path(process.stdout.readline().strip())
            alive = TemporaryFolder()
            assert (left.exists(), alive.path.exists()) == (True, True)  # a living process keeps its own
            process.send_signal(signal.SIGKILL)
        assert left.exists()
        other = TemporaryFolder()
        assert not left.exists()
        assert alive.path.exists()
        for made in (alive, other):
            made.close()

    def test_what_nobody_used_for_an_hour_goes(self, place):
        made = TemporaryFolder()
        old, new, shown = (
            made.new_upload("one") / "old.png",
            made.new_upload("one") / "new.png",
            made.page / "example.png",
        )
        for file in (old, new, shown):
            file.touch()
        time.sleep(0.3)
        upload_folder.use(str(new))
        made.tidy(lifetime=0.2)
        assert (old.exists(), new.exists(), shown.exists()) == (False, True, True)
        made.close()

    def test_a_place_that_others_can_write_to_is_refused(self, place):
        place.mkdir()
        place.chmod(0o777)
        with pytest.raises(OSError, match="set GRADIO_TEMP_DIR"):
            TemporaryFolder()

    def test_components_write_to_the_running_visitors(self, place, tmp_path):
        editor = gr.Image(format="png")
        with caching(tmp_path / "visitor"):
            assert Path(editor.postprocess(np.zeros((4, 4, 3), np.uint8)).path).is_relative_to(
                tmp_path / "visitor"
            )
