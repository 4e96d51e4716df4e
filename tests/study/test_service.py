"""One service makes studies: page and command line refuse the same with the same words."""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path

import pytest

from siamese.study.__main__ import main
from siamese.study.config import ConfigError
from siamese.study.creation.folders import MAX_LISTED
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


@pytest.mark.slow
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
    said = capsys.readouterr().err.partition("error: ")[2].strip()
    assert message in said
    on_page = html.unescape(reply.text).lower()
    for problem in said.splitlines()[1:]:
        assert problem.removeprefix("- ").lower() in on_page
    assert [study.config.id for study in store.studies()] == ["phantoms"]


@pytest.mark.slow
def test_page_and_command_line_say_the_same_about_what_a_study_leaves_out(served, images, tmp_path, capsys):
    """Files that are not read, folders that are passed over, masks without an image, and masks that were not drawn."""
    store, _, client = served
    (images / "Ours" / "notes.txt").write_text("not an image")
    masks = sorted(file.stem for file in (images / "Ours").glob("*.png"))
    next((images / "Ours").glob(f"{masks[0]}.*")).unlink()
    page = client.post("/study/admin/create", data=form_of(client, folder=str(images), groups="1"))
    assert page.status_code == 200
    assert store.study("new").state == "draft"
    on_page = listed_in(page.text)
    assert "Not in this study" in page.text
    assert "Not in this study" not in client.get("/study/admin/studies/new").text

    given = ["--id", "new", "--title", "New", "--groups", "1", "--draft", "--data", str(tmp_path / "data")]
    main(["create", str(images), *given])
    printed = [line.removeprefix("note: ") for line in capsys.readouterr().err.splitlines()]
    assert printed == on_page
    for part in (".hidden", "notes.txt", f"mask {masks[0]!r}: no image of 'Ours'", "1 more masks have"):
        assert sum(part in sentence for sentence in on_page) == 1, part


@pytest.mark.slow
def test_the_list_of_what_is_left_out_is_shortened(served, tmp_path):
    _, _, client = served
    write_folders(tmp_path / "many", MAX_LISTED + 4)
    for file in sorted((tmp_path / "many" / "Ours").iterdir())[1:]:
        file.unlink()
    page = client.post("/study/admin/create", data=form_of(client, folder=str(tmp_path / "many")))
    on_page = listed_in(page.text)
    assert len(on_page) == MAX_LISTED + 1
    assert on_page[-1] == "... and 3 more."


@pytest.mark.slow
def test_a_zip_file_s_unread_files_are_listed_although_no_study_could_be_made(served, images, tmp_path):
    _, _, client = served
    (images / "Ours" / "notes.txt").write_text("not an image")
    stored = shutil.make_archive(str(tmp_path / "images"), "zip", images)
    values = form_of(client, groups="9")
    page = client.post("/study/admin/create", data=values, files={"archive": Path(stored).read_bytes()})
    assert page.status_code == 422
    assert any(s.startswith("not read from the ZIP file:") and "notes.txt" in s for s in listed_in(page.text))


def form_of(client, **values: str) -> dict[str, str]:
    """The fields of the form that makes a study named ``new``."""
    fields = {"id": "new", "title": "New", "protocol": "real_synthetic", "organ": "polyp", "real": "real"}
    return fields | {"csrf": log_in(client), "groups": "0"} | values


def listed_in(text: str) -> list[str]:
    """The sentences of the page's list of what was left out."""
    found = re.search(r'<ul class="left-out">(.*?)</ul>', text, re.DOTALL)
    assert found, text
    return [html.unescape(sentence) for sentence in re.findall(r"<li>(.*?)</li>", found[1], re.DOTALL)]
