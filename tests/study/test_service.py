"""One service makes studies: page and command line refuse the same with the same words."""

from __future__ import annotations

import html
from pathlib import Path

import pytest

from siamese.study.__main__ import main
from siamese.study.config import ConfigError
from siamese.study.creation.service import CreateStudy, create, method_folders
from siamese.study.storage.database import Database
from siamese.study.storage.store import StudyStore
from tests.study.admin_pages import log_in
from tests.study.phantom_study import write_folders


@pytest.fixture
def images(tmp_path) -> Path:
    write_folders(tmp_path / "images", 3)
    (tmp_path / "images" / ".hidden").mkdir()
    return tmp_path / "images"


def test_a_request_becomes_a_draft(tmp_path, images):
    store = StudyStore(Database(f"sqlite:///{tmp_path / 'studies.sqlite3'}"))
    request = CreateStudy(
        id="one",
        title="One",
        protocol="real_synthetic",
        organ="polyp",
        folders=method_folders(images),
        real=("real",),
        training=1,
        repeats=2,
        display_side=128,
        seed=7,
    )
    study = create(store, request)
    assert study.state == "draft"
    assert (study.config.groups, study.config.training, study.config.repeats) == (2, 1, 2)
    assert study.config.seed == 7
    assert [(m.name, m.kind) for m in study.config.methods] == [
        ("ControlNet", "synthetic"),
        ("Ours", "synthetic"),
        ("real", "real"),
    ]
    store.database.close()


def test_a_folder_that_is_not_there_or_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        method_folders(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="cannot be read"):
        method_folders(tmp_path / ("x" * 5000))


@pytest.mark.parametrize(
    ("form", "options", "message"),
    [
        ({"real": "photos"}, ["--real", "photos"], "no folder of images is named 'photos'"),
        ({"sample": "ours"}, ["--sample", "ours"], "write NAME=MODEL"),
        ({"sample": "a=b"}, ["--sample", "a=b"], "sampling needs masks: name their folder"),
        ({"masks": "Ours"}, ["--masks", "{images}/Ours"], "a folder of masks is named, but no method"),
        ({"groups": "9"}, ["--groups", "9"], "3 masks have an image of every method; 9 are needed"),
        ({"training": "9"}, ["--training", "9"], "no mask has an image of every method"),
    ],
)
def test_page_and_command_line_say_the_same(served, images, tmp_path, capsys, form, options, message):
    store, _, client = served
    values = {
        "csrf": log_in(client),
        "id": "new",
        "title": "New",
        "protocol": "real_synthetic",
        "organ": "polyp",
        "real": "real",
        "groups": "0",
        "folder": str(images),
    }
    reply = client.post("/study/admin/create", data=values | form)
    assert reply.status_code == 422
    given = ["--data", str(tmp_path / "data"), *(text.format(images=images) for text in options)]
    with pytest.raises(SystemExit, match="1"):
        main(["create", str(images), "--id", "new", "--title", "New", *given])
    said = capsys.readouterr().err.removeprefix("error: ").strip()
    assert message in said
    assert html.escape(said, quote=False).replace("'", "&#39;") in reply.text.replace("&#34;", '"')
    assert [study.config.id for study in store.studies()] == ["phantoms"]
