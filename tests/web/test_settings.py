"""The environment is read in one place, and a value that cannot be used is a message."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import siamese
from siamese.web.settings import LoginEnvironment, SetupError, SpaceEnvironment, StudyEnvironment

PACKAGE = Path(siamese.__file__).parent
MAY = {"web/settings.py", "studio/backend/process.py"}
"""The module itself, and the start of the model's process, which inherits the whole environment."""


@pytest.mark.slow
def test_nothing_else_reads_the_environment():
    readers = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if (isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")) or (
                isinstance(node, ast.Name) and node.id == "environ"
            ):
                readers.add(file.relative_to(PACKAGE).as_posix())
    assert readers <= MAY


def test_empty_is_the_same_as_missing(monkeypatch):
    for name in ("SPACE_ID", "SIAMESE_STUDY_DATA", "SIAMESE_STUDY_DATASET", "SIAMESE_STUDY_PUSH_MINUTES"):
        monkeypatch.setenv(name, "")
    assert SpaceEnvironment.read().id is None
    assert StudyEnvironment.read() == StudyEnvironment()
    assert StudyEnvironment.read().push_minutes == 5


@pytest.mark.parametrize("users", ["", " , "])
def test_no_users_are_an_error_and_not_a_password_login(monkeypatch, users):
    monkeypatch.setenv("SIAMESE_ADMIN_USERS", users)
    with pytest.raises(SetupError, match="SIAMESE_ADMIN_USERS is set, but names nobody"):
        LoginEnvironment.read()


@pytest.mark.slow
def test_all_wrong_values_are_named_and_secrets_are_not(monkeypatch):
    monkeypatch.setenv("SIAMESE_STUDY_DATASET", "no slash")
    monkeypatch.setenv("SIAMESE_STUDY_PUSH_MINUTES", "soon")
    with pytest.raises(
        SetupError, match=r"SIAMESE_STUDY_DATASET must be .* SIAMESE_STUDY_PUSH_MINUTES must be"
    ):
        StudyEnvironment.read()
    monkeypatch.setenv("SIAMESE_ADMIN_PASSWORD", "correct horse")
    monkeypatch.setenv("OAUTH_CLIENT_SECRET", "a secret")
    monkeypatch.setenv("SIAMESE_ADMIN_USERS", "dr-lee, Dr.Roe")
    login = LoginEnvironment.read()
    assert login.users == ("dr-lee", "Dr.Roe")
    assert login.password.get_secret_value() == "correct horse"
    assert "correct horse" not in repr(login)
    assert "a secret" not in repr(login)
