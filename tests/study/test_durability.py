"""Where storage may not last: what could be lost is said in minutes, and no study opens before that is accepted."""

from __future__ import annotations

import os
import re
import time
from types import SimpleNamespace

import pytest

from siamese.study.__main__ import main
from siamese.study.storage import durability
from siamese.study.storage.durability import DatasetOptions, Durability
from siamese.study.storage.opening import open_store
from siamese.study.storage.schema import studies
from siamese.study.storage.store import StudyError
from siamese.web import hf_space
from siamese.web.access import Access
from siamese.web.data_folder import default_folder
from tests.clock import set_clock
from tests.study.admin_pages import PASSWORD
from tests.study.phantom_study import write_folders
from tests.study.volumes import BOX, mount, page_of


@pytest.mark.slow
def test_nothing_is_asked_on_a_laptop(tmp_path, monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.setenv("SIAMESE_ADMIN_PASSWORD", PASSWORD)
    client, csrf = page_of(tmp_path)
    page = client.get("/study/admin/studies/phantoms").text
    assert BOX not in page
    assert "could be lost" not in page
    assert client.post("/study/admin/studies/phantoms/open", data={"csrf": csrf}).status_code == 303


@pytest.mark.slow
def test_a_space_without_a_volume_asks(tmp_path, on_space):
    client, csrf = page_of(tmp_path)
    page = client.get("/study/admin/studies/phantoms").text
    assert BOX in page
    assert "all answers since its last start, now 1 minute of them, could be lost" in page
    refused = client.post("/study/admin/studies/phantoms/open", data={"csrf": csrf})
    assert refused.status_code == 422
    assert "The study was not opened" in refused.text
    assert "could be lost" in refused.text
    store = open_store(tmp_path)
    assert store.study("phantoms").state == "closed"
    before = time.time()
    assert (
        client.post(
            "/study/admin/studies/phantoms/open", data={"csrf": csrf, "accept_loss": "yes"}
        ).status_code
        == 303
    )
    with store.database.read() as connection:
        assert store.study("phantoms").state == "open"
        assert before <= connection.execute(studies.select()).one().loss_accepted_at <= time.time()
    assert "could be lost" in client.get("/study/admin/studies/phantoms").text  # it stays in sight
    client.post("/study/admin/studies/phantoms/close", data={"csrf": csrf})
    assert (
        client.post("/study/admin/studies/phantoms/open", data={"csrf": csrf}).status_code == 422
    )  # and is asked each time


def test_a_volume_or_a_database_server_lasts(tmp_path, on_space, monkeypatch):
    volume = tmp_path / "volume"
    volume.mkdir()
    assert not hf_space.lasts(volume)
    assert default_folder() != volume / "siamese-studio"
    mount(monkeypatch, volume)
    assert hf_space.lasts(volume / "studies")
    assert not hf_space.lasts(tmp_path / "elsewhere")
    assert default_folder() == volume / "siamese-studio"
    assert Durability(volume / "x", True).warning() is None
    assert Durability(tmp_path / "x", True).warning()
    assert Durability(tmp_path / "x", sqlite=False).warning() is None
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert not hf_space.lasts(tmp_path / "link")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert not hf_space.lasts(volume / "studies")  # mounted, but not to be written


def test_minutes_grow_while_copies_fail(tmp_path, on_space, monkeypatch):
    clock = [1000.0]
    set_clock(monkeypatch, durability, time=lambda: clock[0])
    options = DatasetOptions("clinic/ratings", 5)
    copied, nothing = Durability(tmp_path, True, options), Durability(tmp_path, True)
    copied.copy = SimpleNamespace(options=options, copied_at=1000.0, problem=None)
    clock[0] += 17 * 60
    assert "to clinic/ratings every 5 minutes: up to 5 minutes of answers could be lost" in copied.warning()
    copied.copy.problem = "HTTP 503"
    assert "up to 17 minutes of answers could be lost" in copied.warning()
    assert copied.report() == "The copy to clinic/ratings fails, the last one is 17 minutes old: HTTP 503"
    assert "now 17 minutes of them, could be lost" in nothing.warning()
    assert nothing.report() is None


@pytest.mark.slow
def test_command_line_asks_too(tmp_path, on_space, capsys):
    write_folders(tmp_path / "images", 4)
    make = [
        "create",
        str(tmp_path / "images"),
        "--id",
        "one",
        "--title",
        "One",
        "--data",
        str(tmp_path / "data"),
    ]
    with pytest.raises(SystemExit, match="1"):
        main(make)
    assert "could be lost" in capsys.readouterr().err
    store = open_store(tmp_path / "data")
    assert store.studies() == []
    main([*make, "--draft"])
    with pytest.raises(SystemExit, match="1"):
        main(["open", "one", "--data", str(tmp_path / "data")])
    assert "--accept-loss" in capsys.readouterr().err
    assert store.study("one").state == "draft"
    with pytest.raises(StudyError, match="could be lost"):
        store.open("one")
    main(["open", "one", "--accept-loss", "--data", str(tmp_path / "data")])
    assert store.study("one").state == "open"


@pytest.mark.slow
def test_links_and_proxies_of_a_space(tmp_path, on_space, monkeypatch):
    monkeypatch.setenv("SPACE_HOST", "clinic-studio.example")
    client, csrf = page_of(tmp_path)
    page = client.post("/study/admin/studies/phantoms/invite", data={"csrf": csrf, "labels": "A"}).text
    assert re.search(r"https://clinic-studio\.example/rate/[\w-]+", page)
    assert "testserver/rate" not in page
    assert hf_space.trusted_proxies(Access()) == ("10.0.0.0/8", "::ffff:10.0.0.0/104")
    monkeypatch.delenv("SPACE_ID")
    assert hf_space.trusted_proxies(Access()) == ()
