"""Studies that are copied to the stand-in of the hub."""

from __future__ import annotations

import time

from huggingface_hub import HfApi

from siamese.study.backup.hub import DatasetCopy, start_copy
from siamese.study.backup.snapshot import dump
from siamese.study.storage.database import Database
from siamese.study.storage.durability import DatasetOptions
from siamese.study.storage.store import StudyStore
from tests.study.hub import REPOSITORY, TOKEN, Hub

NEVER = 1440.0


def begin(hub: Hub, store: StudyStore, folder, copies: list) -> DatasetCopy:
    copy = start_copy(
        store, folder, DatasetOptions(REPOSITORY, NEVER), HfApi(endpoint=hub.address, token=TOKEN)
    )
    copies.append(copy)
    copy.trigger().result()
    return copy


def empty(folder) -> StudyStore:
    folder.mkdir()
    return StudyStore(Database(f"sqlite:///{folder / 'studies.sqlite3'}"))


def state(store: StudyStore, study: str = "phantoms") -> dict[str, bytes]:
    return dump(store.database, study)


def wait_for(condition, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
