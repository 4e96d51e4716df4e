"""Small studies of phantom images."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from siamese.study.config import RANKING, REAL_SYNTHETIC, Method, StudyConfig
from siamese.study.creation.folders import create_study
from siamese.study.rating.session import Judgement, RaterSessions, Task
from siamese.study.storage.database import Database
from siamese.study.storage.store import Study, StudyStore
from tests.phantoms import phantom

METHODS = (Method("real", "real"), Method("ControlNet", "synthetic"), Method("Ours", "synthetic"))


def write_folders(
    folder: Path, masks: int, methods: tuple[Method, ...] = METHODS, height: int = 48, width: int = 64
) -> dict[str, Path]:
    """A folder of phantom images for each method, all from one distribution."""
    folders = {}
    for i, method in enumerate(methods):
        folders[method.name] = folder / method.name
        folders[method.name].mkdir(parents=True)
        for mask in range(masks):
            Image.fromarray(phantom(1000 * i + mask, height, width)[0]).save(
                folders[method.name] / f"mask {mask:03d}.png"
            )
    return folders


def config(**changes) -> StudyConfig:
    values = {
        "id": "phantoms",
        "title": "Phantoms",
        "protocol": REAL_SYNTHETIC,
        "organ": "polyp",
        "methods": METHODS,
        "groups": 4,
        "display_side": 128,
    }
    return StudyConfig(**(values | changes))


def make_study(folder: Path, url: str | None = None, **changes) -> tuple[StudyStore, Study]:
    """An open study in a database in ``folder``, or at ``url``."""
    store = StudyStore(Database(url or f"sqlite:///{folder / 'studies.sqlite3'}"))
    wanted = config(**changes)
    study = create_study(
        store,
        wanted,
        write_folders(folder / wanted.id, wanted.groups + wanted.training_groups, wanted.methods),
    )
    store.open(study.config.id)
    return store, study


def judge(study: StudyConfig, task: Task, comment: str = "") -> Judgement:
    """An answer that fits the protocol."""
    if study.protocol == RANKING:
        return Judgement({"ranks": {item: i + 1 for i, item in enumerate(task.items)}}, None, comment, 900)
    response = {"real": True} if study.protocol == REAL_SYNTHETIC else {"chosen": task.items[0]}
    return Judgement(response, 7, comment, 900)


def answer_all(sessions: RaterSessions, token: str, study: StudyConfig) -> int:
    """Answer until nothing is left; the number of answers."""
    step, count = sessions.overview(token).step, 0
    while step.task:
        step = sessions.answer(token, step.task.id, f"key {count}", judge(study, step.task)).step
        count += 1
    return count
