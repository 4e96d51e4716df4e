"""A study server that copies itself to the hub: restored at its start, pushed at its end, and its settings."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

import httpx2
import pytest
from fastapi.testclient import TestClient
from huggingface_hub import HfApi

from siamese.study.__main__ import main
from siamese.study.backup.hub import DatasetError, read_server
from siamese.study.web.app import study_app
from tests.study.hub import REPOSITORY, TOKEN
from tests.study.hub_copies import wait_for
from tests.study.phantom_study import make_study


@pytest.mark.slow
def test_server_restores_pushes_and_pushes_at_its_end(tmp_path, hub, monkeypatch):
    for name, value in (
        ("SIAMESE_STUDY_DATASET", REPOSITORY),
        ("SIAMESE_STUDY_PUSH_MINUTES", "0.01"),
        ("HF_TOKEN", TOKEN),
        ("SIAMESE_ADMIN_PASSWORD", "p"),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("siamese.study.backup.hub.HfApi", partial(HfApi, endpoint=hub.address))
    (tmp_path / "a").mkdir()
    store, _study = make_study(tmp_path / "a")
    path = store.invite("phantoms", ["A"])[0].path

    def answer(client) -> None:
        task = client.get(f"{path}/api/state").json()["step"]["task"]
        given = {"task": task["id"], "key": task["id"], "response": {"real": True}, "confidence": 1}
        assert client.post(f"{path}/api/answer", json=given).json()["saved"]

    with TestClient(study_app(tmp_path / "a"), follow_redirects=False) as client:
        client.post(f"{path}/api/register", json={"pseudonym": "owl", "role": "x", "consent": True})
        answer(client)
        wait_for(
            lambda: (
                "studies/phantoms/answers.jsonl" in hub.files and len(hub.rows("phantoms", "answers")) == 1
            )
        )
        client.post("/study/admin/login", data={"password": "p"})
        assert f"Copied to {REPOSITORY} 0 minutes ago." in client.get("/study/admin").text
    monkeypatch.setenv("SIAMESE_STUDY_PUSH_MINUTES", "1440")
    with TestClient(study_app(tmp_path / "b")) as client:  # another disk
        assert client.get(f"{path}/api/state").json()["step"]["task"]["number"] == 2
        answer(client)
    assert len(hub.rows("phantoms", "answers")) == 2  # by the push at the end


@pytest.mark.slow
def test_the_signal_to_end_leaves_nothing_behind(tmp_path, hub):
    (tmp_path / "a").mkdir()
    store, _ = make_study(tmp_path / "a")
    path = store.invite("phantoms", ["A"])[0].path
    variables = {
        "SIAMESE_STUDY_DATASET": REPOSITORY,
        "SIAMESE_STUDY_PUSH_MINUTES": "1440",
        "HF_TOKEN": TOKEN,
        "HF_ENDPOINT": hub.address,
        "SIAMESE_ADMIN_PASSWORD": "p",
        "PYTHONPATH": os.getcwd(),
    }
    command = [sys.executable, "-m", "siamese.study", "serve", "--port", "0", "--data", str(tmp_path / "a")]
    with subprocess.Popen(command, env=os.environ | variables, stdout=subprocess.PIPE, text=True) as server:
        try:
            address = server.stdout.readline().split()[-1].removesuffix("/study/admin")
            wait_for(lambda: "studies/phantoms/raters.jsonl" in hub.files)
            reply = httpx2.post(
                f"{address}{path}/api/register", json={"pseudonym": "owl", "role": "x", "consent": True}
            )
            assert reply.status_code == 200
            assert hub.rows("phantoms", "raters")[0]["pseudonym"] is None
            server.terminate()
            server.wait(30)
        finally:
            server.kill()
    assert hub.rows("phantoms", "raters")[0]["pseudonym"] == "owl"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"SIAMESE_STUDY_DATASET": "no slash"}, "must be owner/name"),
        ({"SIAMESE_STUDY_DATASET": REPOSITORY}, "no token: set HF_TOKEN"),
        ({"SIAMESE_STUDY_DATASET": REPOSITORY, "SIAMESE_STUDY_PUSH_MINUTES": "soon"}, "a number of minutes"),
        ({"SIAMESE_STUDY_DATASET": REPOSITORY, "SIAMESE_STUDY_PUSH_MINUTES": "0"}, "above 0"),
        ({"SIAMESE_STUDY_DATASET": REPOSITORY, "SIAMESE_STUDY_PUSH_MINUTES": "nan"}, "above 0"),
    ],
)
def test_unusable_variables_are_messages(tmp_path, monkeypatch, capsys, values, message):
    monkeypatch.setattr("siamese.study.backup.hub.get_token", lambda: None)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match="1"):
        main(["serve", "--data", str(tmp_path / "data"), "--port", "0"])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": "1", "server": "a"}', "\0"])
def test_a_damaged_note_of_the_server_is_refused(tmp_path, text):
    file = tmp_path / "server.json"
    assert read_server(file) is None
    file.write_text('{"format": 1, "server": "a", "later": 2}')
    assert read_server(file).server == "a"
    file.write_text(text)
    with pytest.raises(DatasetError, match=r"server\.json of the dataset repository is damaged"):
        read_server(file)
