"""The demonstration study: one command to a link."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from siamese.models.checkpoint import save_checkpoint
from siamese.study.__main__ import main
from siamese.study.config import ConfigError
from siamese.study.creation.demo import Demonstration, make_demo
from siamese.study.creation.generated import masks_hash
from siamese.study.rating.session import RaterSessions
from siamese.study.storage.opening import open_store
from tests.models import build
from tests.phantoms import phantom, write_folder
from tests.study.phantom_study import answer_all

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    """A model folder; images of 64 x 64, four steps of DDIM."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_checkpoint(build("small"), folder)
    return str(folder)


@pytest.fixture
def store(tmp_path):
    (tmp_path / "data").mkdir()
    made = open_store(tmp_path / "data")
    yield made
    made.database.close()


@pytest.mark.slow
def test_two_settings_without_real_images_again_and_again(store, tiny):
    reports = []
    studies = [
        make_demo(store, Demonstration(tiny, groups=2), lambda *a: reports.append(a)) for _ in range(3)
    ]
    assert [s.config.id for s in studies] == ["demo", "demo-2", "demo-3"]
    assert {s.state for s in store.studies()} == {"open"}
    one = studies[0].config
    assert (one.protocol, one.rated) == ("ranking", 2)
    assert reports[-1] == ("unguided", 2, 2)
    guided, unguided = (json.loads(m.source) for m in one.methods)
    assert guided["guidance_scale"] == 3
    assert unguided["guidance_scale"] == 1
    assert guided["masks_sha256"] == unguided["masks_sha256"]
    sessions, token = RaterSessions(store), store.invite("demo", ["A"])[0].token
    sessions.register(token, "owl", "x", True)
    assert answer_all(sessions, token, one) == 2


@pytest.mark.slow
def test_real_images_with_their_masks(store, tiny, tmp_path):
    write_folder(tmp_path / "pairs", 3)
    study = make_demo(store, Demonstration(tiny, groups=3, real=tmp_path / "pairs")).config
    assert (study.protocol, [m.name for m in study.methods], study.rated) == (
        "real_synthetic",
        ["real", "synthetic"],
        6,
    )
    theirs = masks_hash({f"case {i:02d}": phantom(i)[1] for i in range(3)})
    assert json.loads(study.methods[1].source)["masks_sha256"] == theirs
    flat = make_demo(
        store,
        Demonstration(tiny, groups=3, real=tmp_path / "pairs" / "images", masks=tmp_path / "pairs" / "masks"),
    ).config
    drawn = make_demo(store, Demonstration(tiny, "lesion", 2, tmp_path / "pairs" / "images")).config
    assert (
        json.loads(flat.methods[1].source)["masks_sha256"]
        == theirs
        != json.loads(drawn.methods[1].source)["masks_sha256"]
    )
    assert "skin lesion" in json.loads(drawn.methods[1].source)["prompt"]


def test_bad_input(store, tiny, tmp_path):
    write_folder(tmp_path / "pairs", 3)
    (tmp_path / "pairs" / "masks" / "case 01.png").unlink()
    (tmp_path / "empty").mkdir()
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(tmp_path / "empty" / "case 00.png")
    for wanted, message in [
        (Demonstration(tiny, real=tmp_path / "nowhere"), "nowhere: there is no such folder"),
        (Demonstration(tiny, groups=3, real=tmp_path / "pairs"), "'synthetic' has no mask 'case 01'"),
        (Demonstration(tiny, groups=4, real=tmp_path / "pairs" / "images"), "3 masks .* 4 are needed"),
        (Demonstration(tiny, groups=1, real=tmp_path / "pairs", masks=tmp_path / "empty"), "mask is empty"),
        (Demonstration(tiny, masks=tmp_path / "pairs"), "give --real"),
        (Demonstration(tiny, "liver"), "'liver' has no known prompt"),
        (Demonstration(tiny, groups=0), "groups must be"),
        (Demonstration("/no/such/model", groups=1), "no such folder"),
    ]:
        with pytest.raises(ConfigError, match=message):
            make_demo(store, wanted)
    assert store.studies() == []


def test_a_taken_port_is_reported_before_anything_is_made(store, tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        main(["demo", "--host", "240.0.0.1", "--port", "1", "--data", str(tmp_path / "data")])
    assert "choose another with --port" in capsys.readouterr().err
    assert store.studies() == []


@pytest.mark.slow
def test_one_command_prints_a_link_that_works(tiny, tmp_path):
    command = [
        sys.executable,
        "-m",
        "siamese.study",
        "demo",
        "--model",
        tiny,
        "--groups",
        "1",
        "--data",
        str(tmp_path / "data"),
    ]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    ) as process:
        try:
            said = ""
            while not (link := re.search(r"^ +(http://\S+/rate/\S+)$", said, re.M)):
                line = process.stdout.readline()
                assert line, f"ended without a link: {said}"
                said += line
            with urllib.request.urlopen(link[1], timeout=30) as page:
                assert page.status == 200
                assert "rate.js" in page.read().decode()
            with urllib.request.urlopen(f"{link[1]}/api/state", timeout=30) as state:
                assert json.load(state)["title"] == "Demonstration"
        finally:
            process.terminate()
