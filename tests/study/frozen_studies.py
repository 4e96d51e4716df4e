"""Small studies of each protocol with the same answers in every run: what their pages say, their exports and their results.

``python -m tests.study.frozen_studies`` writes them to ``tests/frozen/studies``. The files there were first written by version 0.2.0 (commit
a321234) and stand for the exports that people have. Words of a page may change since; numbers, exports and database rows must not.
"""

from __future__ import annotations

import dataclasses
import json
import random
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

from siamese.study.answers.export import answers_csv, answers_json, read_answers
from siamese.study.config import Method, StudyConfig
from siamese.study.report.results import Results, read_results
from siamese.study.report.sections import sections_of
from siamese.study.storage.database import Database
from siamese.study.storage.opening import OpenedStudies
from siamese.study.storage.schema import answers, presentations
from siamese.study.storage.store import NewItem, StudyStore
from siamese.study.web.app import add_study_routes
from tests.study.fixed_chance import fixed_chance, fixed_time

FOLDER = Path(__file__).parents[1] / "frozen" / "studies"
PROTOCOLS = ("real_synthetic", "ranking", "pairwise")
METHODS = (Method("real", "real"), Method("ControlNet", "synthetic"), Method("Ours", "synthetic", "a model"))


def any_response(protocol: str, items: list[str], chance: random.Random) -> dict[str, Any]:
    """A response as the page sends it."""
    if protocol == "real_synthetic":
        return {"real": chance.random() < 0.6}
    if protocol == "pairwise":
        return {"chosen": chance.choice(items)}
    return {"ranks": dict(zip(items, chance.sample(range(1, len(items) + 1), len(items)), strict=True))}


def config_of(protocol: str) -> StudyConfig:
    """Five rated groups, two practice items, two repeated ones."""
    return StudyConfig(
        id="frozen",
        title="Frozen",
        protocol=protocol,
        organ="polyp",
        methods=METHODS,
        groups=5,
        training=2,
        repeats=2,
        share_known=True,
        seed=3,
    )


class Transcript:
    """Requests of one rater's page and what was said to them."""

    def __init__(self, client: TestClient, path: str, protocol: str, chance: random.Random) -> None:
        self.lines: list[list[Any]] = []
        self._client, self._path, self.protocol, self._chance = client, path, protocol, chance

    def ask(self, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        reply = (
            self._client.get(f"{self._path}/api/{path}")
            if body is None
            else self._client.post(f"{self._path}/api/{path}", json=body)
        )
        self.lines.append([path, body, reply.status_code, reply.json()])
        return reply.json()

    def answer(self, task: dict[str, Any], key: str, correction: bool = False) -> dict[str, Any]:
        ranking = self.protocol == "ranking"
        body = {
            "task": task["id"],
            "key": key,
            "response": any_response(self.protocol, task["items"], self._chance),
            "confidence": None if ranking else self._chance.randint(1, 10),
            "comment": "=1+1, sharp" if self._chance.random() < 0.1 else "",
            "client_ms": self._chance.randint(500, 4000),
            "correction": correction,
        }
        return self.ask("answer", body)

    def rate(self, most: int = 99) -> None:
        """Register and answer up to ``most`` screens; the last one is corrected once."""
        self.ask("state")
        step = self.ask("register", {"pseudonym": "owl", "role": "resident", "consent": True})["step"]
        count = 0
        while step["task"] and count < most:
            step = self.answer(step["task"], f"key {count}")["step"]
            count += 1
        self.ask("answer", {"task": "none", "key": "k", "response": {}})
        self.answer(self.ask("previous")["task"], "correction", correction=True)


def refusals(transcript: Transcript) -> None:
    """Answers to the current screen that do not fit, each with what is said to it."""
    task = transcript.ask("state")["step"]["task"]
    wrong: list[dict[str, Any]] = [
        {"response": {}},
        {"response": {"real": 1}, "confidence": 5},
        {"response": {"real": True}, "confidence": 5},
        {"response": {"real": True}, "confidence": 11},
        {"response": {"chosen": "other"}, "confidence": 5},
        {"response": {"chosen": task["items"][0]}},
        {"response": {"ranks": dict.fromkeys(task["items"], 1)}},
        {"response": {"ranks": {item: n for n, item in enumerate(task["items"], 1)}}, "confidence": 5},
    ]
    for n, values in enumerate(wrong):
        # The right form for this protocol would be stored: those are asked for elsewhere.
        if transcript.protocol == "real_synthetic" and n == 2:
            continue
        transcript.ask("answer", {"task": task["id"], "key": f"wrong {n}"} | values)


def make_frozen(folder: Path, protocol: str) -> tuple[StudyStore, list[list[Any]]]:
    """A store with the study and its answers, and the transcript of its raters' pages."""
    store = StudyStore(Database(f"sqlite:///{folder / 'studies.sqlite3'}"))
    config, chance = config_of(protocol), random.Random(7)
    app = FastAPI()
    with patch.dict("os.environ", {"SIAMESE_ADMIN_PASSWORD": "x"}):
        add_study_routes(app, OpenedStudies(folder, store))
    with fixed_chance(protocol), fixed_time(), TestClient(app) as client:
        groups = [f"mask {n}" for n in range(config.groups + config.training_groups)]
        contents = [
            NewItem(group, m.name, n >= config.groups, f"{group} {n} {m.name[:4]}".encode())
            for n, group in enumerate(groups)
            for m in METHODS
        ]
        store.add(config, contents)
        store.open(config.id)
        lines = []
        for n, most in enumerate((99, 99, 4, 99, 3)):
            transcript = Transcript(client, store.invite(config.id, [f"Dr {n}"])[0].path, protocol, chance)
            transcript.rate(most)
            if most == 4:
                refusals(transcript)
            lines += transcript.lines if n in (0, 2) else []
        people = store.progress(config.id)
        store.exclude(people[3].rater, "too fast")
        store.withdraw(people[4].rater)
        store.close(config.id)
    return store, lines


def stored_rows(store: StudyStore) -> list[list[Any]]:
    """Answers as the database has them, with the screens that they are to."""
    with store.database.read() as connection:
        found = connection.execute(
            select(
                presentations.c.position,
                presentations.c.phase,
                presentations.c.group_name,
                presentations.c.item_ids,
                presentations.c.repeat_of,
                answers.c.response,
                answers.c.confidence,
                answers.c.supersedes,
            )
            .join(answers, answers.c.presentation_id == presentations.c.id)
            .order_by(answers.c.id)
        )
        return [list(row) for row in found]


def plain_results(results: Results) -> dict[str, Any]:
    """What the results page shows, and the summary's figures."""
    return {
        "sections": [dataclasses.asdict(s) for s in sections_of(results)],
        "summary": dataclasses.asdict(results.summary) if results.summary else None,
    }


def texts_of(store: StudyStore, lines: list[list[Any]]) -> dict[str, str]:
    """The frozen files' texts by the end of their names."""
    given = read_answers(store, "frozen")
    found = {choice: plain_results(read_results(store, "frozen", choice)) for choice in ("complete", "all")}
    return {
        "export.json": answers_json(store, given, pseudonyms=True),
        "answers.csv": answers_csv(given),
        "results.json": json.dumps(found, indent=1),
        "page.json": "[\n" + ",\n".join(json.dumps(line) for line in lines) + "\n]\n",
        "rows.json": "[\n" + ",\n".join(json.dumps(row) for row in stored_rows(store)) + "\n]\n",
    }


def main() -> None:
    """Write the files."""
    for protocol in PROTOCOLS:
        with tempfile.TemporaryDirectory() as folder:
            store, lines = make_frozen(Path(folder), protocol)
            for name, text in texts_of(store, lines).items():
                (FOLDER / f"{protocol}.{name}").write_bytes(text.encode("utf-8"))
            store.database.close()


if __name__ == "__main__":
    main()
