"""A Space's volume and its page of a study, for tests."""

from __future__ import annotations

import os

from fastapi.testclient import TestClient

from siamese.study.web.app import study_app
from siamese.web import hf_space
from tests.study.admin_pages import log_in
from tests.study.phantom_study import make_study

BOX = 'name="accept_loss"'


def mount(monkeypatch, folder) -> None:
    """Let ``folder`` be the Space's persistent volume."""
    monkeypatch.setattr(hf_space, "VOLUME", folder)
    ismount = os.path.ismount
    monkeypatch.setattr(os.path, "ismount", lambda path: path == folder or ismount(path))


def page_of(folder) -> tuple[TestClient, str]:
    """A logged-in client of a server whose study is closed, and the forms' token."""
    store, _ = make_study(folder)
    store.close("phantoms")
    store.database.close()
    client = TestClient(study_app(folder), base_url="https://testserver", follow_redirects=False)
    return client, log_in(client)
