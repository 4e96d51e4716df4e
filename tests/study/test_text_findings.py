"""A study of real images with burned-in text: said when it is made, kept as a draft, opened once that is accepted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from siamese.models.checkpoint import save_checkpoint
from siamese.study.__main__ import main
from siamese.study.backup.snapshot import dump, dump_images, restore
from siamese.study.creation.demo import Demonstration, make_demo
from siamese.study.creation.folders import create_study
from siamese.study.creation.generated import Sampled, Sampler, create_sampled_study
from siamese.study.storage import text_findings
from siamese.study.storage.database import Database
from siamese.study.storage.opening import open_store
from siamese.study.storage.store import NoSuchStudyError, StudyError, StudyStore
from siamese.study.storage.text_findings import MAX_NAMED, text_warning
from tests.models import build
from tests.overlays import overlay
from tests.phantoms import write_folder
from tests.study.admin_pages import log_in, zipped
from tests.study.phantom_study import METHODS, config, write_folders

NAMED = "real/mask 001"


def write_dated(folder: Path, masks: int = 4) -> dict[str, Path]:
    """Folders of phantoms, one real image of which has burned-in text."""
    folders = write_folders(folder, masks)
    image, _ = overlay(1)
    Image.fromarray(image).save(folders["real"] / "mask 001.png")
    return folders


@pytest.fixture
def store(tmp_path):
    made = StudyStore(Database(f"sqlite:///{tmp_path / 'studies.sqlite3'}"))
    yield made
    made.database.close()


@pytest.mark.slow
def test_draft_names_the_image_and_opens_once_it_is_accepted(store, tmp_path):
    create_study(store, config(), write_dated(tmp_path / "images"))
    (found,) = store.texts("phantoms")
    assert (found.name, found.method, found.group) == (NAMED, "real", "mask 001")
    assert found.boxes
    assert not store.text_accepted("phantoms")
    with pytest.raises(StudyError, match=f"not opened.*\n- {NAMED}\n.*--accept-text"):
        store.open("phantoms")
    assert store.study("phantoms").state == "draft"
    store.open("phantoms", accept_text=True)
    assert store.study("phantoms").state == "open"
    assert store.text_accepted("phantoms")
    assert store.texts("phantoms") == [found]
    store.close("phantoms")
    store.open("phantoms")  # accepted once
    assert store.study("phantoms").state == "open"


@pytest.mark.slow
def test_clean_images_ask_for_nothing(store, tmp_path):
    create_study(store, config(), write_folders(tmp_path / "images", 4))
    store.open("phantoms")
    assert store.study("phantoms").state == "open"
    assert store.texts("phantoms") == []


def test_images_that_nobody_photographed_are_not_looked_at(store, tmp_path, monkeypatch):
    looked = []
    monkeypatch.setattr(text_findings, "find_text", lambda image: looked.append(image.shape) or ())
    create_study(store, config(), write_folders(tmp_path / "images", 6))
    assert len(looked) == 4  # of the chosen four groups the real image each


@pytest.mark.slow
def test_thumbnail_shows_the_text_framed_and_nothing_else_has_one(store, tmp_path):
    create_study(store, config(display_side=512), write_dated(tmp_path / "images"))
    (found,) = store.texts("phantoms")
    image = cv2.imdecode(np.frombuffer(store.thumbnail("phantoms", found.item), np.uint8), cv2.IMREAD_COLOR)
    assert max(image.shape) == text_findings.THUMBNAIL
    red = (image[..., 2] > 150) & (image[..., :2].max(-1) < 90)
    box = found.boxes[0]
    assert red[round(box.top * image.shape[0]) - 1 : round(box.bottom * image.shape[0]) + 2].any()
    for item in ("none", "../x"):
        with pytest.raises(NoSuchStudyError, match="no such image"):
            store.thumbnail("phantoms", item)
    with pytest.raises(NoSuchStudyError, match="no such image"):
        store.thumbnail("other", found.item)


def test_many_names_are_cut_short():
    text = text_warning([f"real/{i}" for i in range(MAX_NAMED + 7)], "no.")
    assert f"into {MAX_NAMED + 7} of" in text
    assert "... and 7 more." in text
    assert text.count("\n- ") == MAX_NAMED


@pytest.mark.slow
def test_sampling_does_not_begin(store, tmp_path, monkeypatch):
    """Sampling takes minutes: it is said before."""
    folders = write_dated(tmp_path / "images")
    masks = write_folder(tmp_path / "pairs", 4) / "masks"
    for i in range(4):
        (masks / f"case {i:02d}.png").rename(masks / f"mask {i:03d}.png")
    save_checkpoint(build("small"), tmp_path / "tiny")
    sampled = [Sampled("ours", str(tmp_path / "tiny"), {"num_inference_steps": 1})]
    methods = (METHODS[0], type(METHODS[0])("ours", "synthetic"))
    given = {"real": folders["real"], "ours": masks}
    written, write = [], Sampler.write
    monkeypatch.setattr(Sampler, "write", lambda *a: written.append(1) or write(*a))
    with pytest.raises(StudyError, match=f"nothing was made.*\n- {NAMED}"):
        create_sampled_study(store, config(methods=methods), given, sampled, refuse_text=True)
    assert not written
    assert store.studies() == []
    create_sampled_study(store, config(methods=methods), given, sampled)
    assert written
    assert [one.name for one in store.texts("phantoms")] == [NAMED]
    assert not store.text_accepted("phantoms")

    with pytest.raises(StudyError, match="nothing was made"):
        make_demo(store, Demonstration(str(tmp_path / "tiny"), groups=4, real=folders["real"], masks=masks))
    demo = make_demo(
        store,
        Demonstration(str(tmp_path / "tiny"), groups=4, real=folders["real"], masks=masks, accept_text=True),
    )
    assert demo.config.id == "demo"
    assert store.study("demo").state == "open"


@pytest.mark.slow
def test_command_line(tmp_path, capsys):
    write_dated(tmp_path / "images")
    place = ["--data", str(tmp_path / "data")]
    make = ["create", str(tmp_path / "images"), "--title", "One", "--display-side", "128", *place, "--id"]
    with pytest.raises(SystemExit, match="1"):
        main([*make, "one"])
    said = capsys.readouterr().err
    assert "nothing was made" in said
    assert NAMED in said
    assert "--accept-text" in said
    main([*make, "draft", "--draft"])
    assert "the study is a draft" in (said := capsys.readouterr().err)
    assert NAMED in said
    with pytest.raises(SystemExit, match="1"):
        main(["open", "draft", *place])
    assert "was not opened" in capsys.readouterr().err
    main(["open", "draft", "--accept-text", *place])
    main([*make, "two", "--accept-text"])
    store = open_store(tmp_path / "data")
    assert {s.config.id: s.state for s in store.studies()} == {"draft": "open", "two": "open"}
    store.database.close()


@pytest.mark.slow
def test_web_form_keeps_the_upload_and_asks_before_opening(served, tmp_path):
    store, _, client = served
    csrf = log_in(client)
    write_dated(tmp_path / "new", 3)
    values = {
        "csrf": csrf,
        "id": "dated",
        "title": "Dated",
        "protocol": "ranking",
        "organ": "polyp",
        "real": "real",
        "groups": "0",
    }
    reply = client.post(
        "/study/admin/create",
        data=values,
        files={"archive": ("x.zip", zipped(tmp_path / "new"), "application/zip")},
    )
    assert reply.status_code == 303
    assert store.study("dated").state == "draft"
    page = client.get("/study/admin/studies/dated").text
    assert NAMED in page
    assert 'name="accept_text"' in page
    assert "may name a patient" in page
    (picture,) = re.findall(r'<img src="(/study/admin/[^"]+)"', page)
    reply = client.get(picture)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "image/jpeg"
    assert reply.content[:2] == b"\xff\xd8"
    assert client.get(picture.replace("/dated/", "/phantoms/")).status_code == 404
    refused = client.post("/study/admin/studies/dated/open", data={"csrf": csrf})
    assert refused.status_code == 422
    assert NAMED in refused.text
    assert store.study("dated").state == "draft"
    assert (
        client.post("/study/admin/studies/dated/open", data={"csrf": csrf, "accept_text": "yes"}).status_code
        == 303
    )
    page = client.get("/study/admin/studies/dated").text
    assert store.study("dated").state == "open"
    assert "This was accepted" in page
    assert 'name="accept_text"' not in page
    client.cookies.clear()
    assert client.get(picture).status_code == 401
    assert "accept_text" not in page
    assert client.get(picture.replace("dated", "none")).status_code == 401


@pytest.mark.slow
def test_copies_keep_it_and_earlier_copies_can_be_read(store, tmp_path):
    create_study(store, config(), write_dated(tmp_path / "images"))
    store.open("phantoms", accept_text=True)
    folder = tmp_path / "files" / "phantoms"
    folder.mkdir(parents=True)
    files = dump(store.database, "phantoms")
    dump_images(store.database, "phantoms", folder / "images.zip")
    for number, forget in enumerate((False, True)):
        for name, data in files.items():
            rows = [json.loads(line) for line in data.splitlines()]
            for row in rows if forget else []:
                row.pop("text_boxes", None)
                row.pop("text_accepted_at", None)
            (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        other = StudyStore(Database(f"sqlite:///{tmp_path / f'other{number}.sqlite3'}"))
        assert restore(other.database, folder)
        assert other.study("phantoms").state == "open"
        assert other.texts("phantoms") == ([] if forget else store.texts("phantoms"))
        other.database.close()
