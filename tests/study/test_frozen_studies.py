"""Exports, database rows, pages and figures of the three protocols stay what they were; old exports are still imported."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from siamese.study.answers.export import answers_csv, answers_json, read_answers
from siamese.study.answers.import_answers import import_study
from siamese.study.report.results import read_results
from siamese.study.storage.database import Database
from siamese.study.storage.store import StudyStore
from tests.study.frozen_studies import FOLDER, PROTOCOLS, make_frozen, plain_results, texts_of

IMPORTED_LATER = ("locked_at", "withdrawals")
"""Times that an import does not keep."""
ADDED_LATER = frozenset({"duration"})
"""Fields that a rater's page has got since."""


def frozen(protocol: str, name: str) -> str:
    return (FOLDER / f"{protocol}.{name}").read_bytes().decode("utf-8")


def same(found: Any, expected: Any) -> None:
    """Equal, with figures to nine digits: another numpy may sum in another order."""
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for name in expected:
            same(found[name], expected[name])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)
    else:
        assert found == expected


def without(value: Any, names: frozenset[str]) -> Any:
    """``value``, of JSON, without the fields of these names."""
    if isinstance(value, dict):
        return {name: without(each, names) for name, each in value.items() if name not in names}
    return [without(each, names) for each in value] if isinstance(value, list) else value


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_study_is_what_it_was(tmp_path, protocol):
    store, lines = make_frozen(tmp_path, protocol)
    made = texts_of(store, lines)
    assert made["answers.csv"] == frozen(protocol, "answers.csv")
    for name in ("export.json", "rows.json"):
        assert json.loads(made[name]) == json.loads(frozen(protocol, name))
    assert without(json.loads(made["page.json"]), ADDED_LATER) == json.loads(frozen(protocol, "page.json"))
    assert made["export.json"] == frozen(protocol, "export.json")
    same(json.loads(made["results.json"]), json.loads(frozen(protocol, "results.json")))
    store.database.close()


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_old_export_is_imported(tmp_path, protocol):
    store = StudyStore(Database(f"sqlite:///{tmp_path / 'studies.sqlite3'}"))
    old = frozen(protocol, "export.json")
    import_study(store, old)
    given = read_answers(store, "frozen")
    written, expected = json.loads(answers_json(store, given, pseudonyms=True)), json.loads(old)
    assert {k: v for k, v in written.items() if k not in IMPORTED_LATER} == {
        k: v for k, v in expected.items() if k not in IMPORTED_LATER
    }
    assert list(csv.reader(io.StringIO(answers_csv(given)))) == list(
        csv.reader(io.StringIO(frozen(protocol, "answers.csv")))
    )
    results = json.loads(frozen(protocol, "results.json"))
    for choice, known in results.items():
        same(
            json.loads(json.dumps(plain_results(read_results(store, "frozen", choice))["summary"])),
            known["summary"],
        )
    store.database.close()
