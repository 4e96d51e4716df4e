"""Pictures of the page for the README, on the embedded model and synthetic images only: ``python -m tests.tools.pictures``."""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from siamese.masks.shapes import load_statistics, random_lesion
from siamese.records.catalogue import find_models
from siamese.records.prompts import POLYP
from siamese.sampling import MaskDiffusion
from siamese.studio.backend.queue import ModelWorker
from siamese.studio.server import Studio
from siamese.study.config import REAL, SYNTHETIC, Method, StudyConfig
from siamese.study.creation.folders import create_study
from siamese.study.rating.judgement import Judgement
from siamese.study.rating.session import RaterSessions
from siamese.study.report.results import read_results
from siamese.study.storage.location import data_directory
from siamese.study.storage.opening import open_store
from siamese.study.storage.store import StudyStore
from siamese.study.web.pages import report_html
from tests.browser.actions import open_settings, outcome, press
from tests.browser.conftest import ARGUMENTS, PATIENCE, ready
from tests.studio_model import EMBEDDED
from tests.study.protocols import RANKING, REAL_SYNTHETIC

ASSETS = EMBEDDED.parent
WINDOW = {"width": 1440, "height": 940}
GROUPS, RATERS, SIDE = 6, 6, 256


def visit(browser: Browser, address: str) -> Page:
    page = browser.new_page(viewport=WINDOW)
    page.set_default_timeout(4 * PATIENCE)
    page.goto(address)
    return page


def picture_studio(browser: Browser, address: str) -> None:
    """Four variants of the first visit's mask."""
    page = visit(browser, address)
    ready(page)
    expect(page.locator("#model .ready")).to_be_visible(timeout=4 * PATIENCE)
    page.locator("#variants input[type=number]").fill("4")
    page.locator("#variants input[type=number]").blur()
    open_settings(page)
    page.get_by_label("Random seed").first.uncheck()
    page.get_by_label("Seed", exact=True).fill("1")
    press(page)
    expect(outcome(page)).to_be_visible(timeout=4 * PATIENCE)
    page.get_by_role("button", name="Expert settings").click()
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(3000)
    page.screenshot(path=ASSETS / "studio.png")


def write_images(folder: Path) -> dict[str, Path]:
    """Images of random lesions in two settings of the embedded model, one folder a setting."""
    model, folders = MaskDiffusion.from_pretrained(EMBEDDED), {}
    masks = [random_lesion(load_statistics()[POLYP], seed, SIDE) for seed in range(GROUPS)]
    for name, guidance, first in (("ours", None, 0), ("ours, less guided", 1.5, GROUPS)):
        folders[name] = folder / name
        folders[name].mkdir()
        images = model.sample(masks, POLYP, list(range(first, first + GROUPS)), guidance=guidance)
        for i, image in enumerate(images):
            Image.fromarray(image).save(folders[name] / f"lesion {i + 1}.png")
    return folders


def make_study(store: StudyStore, folders: dict[str, Path], protocol: str) -> str:
    """An open study of the images. Real / Synthetic needs real images: for a picture of the page the second setting stands in for them."""
    kinds = (SYNTHETIC, SYNTHETIC if protocol == RANKING else REAL)
    methods = tuple(Method(name.replace(",", ""), kind) for name, kind in zip(folders, kinds, strict=True))
    config = StudyConfig(
        protocol.replace("_", "-"), "Polyps, a demonstration", protocol, "polyp", methods, GROUPS
    )
    create_study(store, config, dict(zip((m.name for m in methods), folders.values(), strict=True)))
    store.open(config.id)
    return config.id


def rank_at_random(store: StudyStore, name: str) -> None:
    """Simulated raters, who prefer neither setting."""
    sessions, chance = RaterSessions(store), random.Random(0)
    for number in range(RATERS):
        token = store.invite(name, [f"simulated {number}"])[0].token
        step, count = sessions.register(token, f"simulated {number}", "none", True), 0
        while step.task:
            ranks = dict(zip(step.task.items, chance.sample((1, 2), 2), strict=True))
            step, count = (
                sessions.answer(
                    token, step.task.id, str(count), Judgement({"ranks": ranks}, None, "", 2000)
                ).step,
                count + 1,
            )


def picture_rating(browser: Browser, address: str, store: StudyStore, name: str, file: str) -> None:
    """A rater's first screen."""
    page = visit(browser, address + store.invite(name, ["picture"])[0].path)
    page.get_by_label("Pseudonym").fill("owl")
    page.get_by_label("Role").fill("Endoscopist")
    page.get_by_label("I have read this and consent.").check()
    page.get_by_role("button", name="Begin").click()
    expect(page.locator("#stage img").first).to_be_visible()
    page.wait_for_timeout(1000)
    page.screenshot(path=ASSETS / file)


def main() -> None:
    """Write ``assets/studio.png``, ``rating.png``, ``ranking.png`` and ``results.png``."""
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        folder = Path(scratch)
        store = open_store(data_directory(folder / "studies"))
        folders = write_images(folder)
        real_synthetic, ranking = (
            make_study(store, folders, REAL_SYNTHETIC),
            make_study(store, folders, RANKING),
        )
        rank_at_random(store, ranking)
        (folder / "results.html").write_text(report_html(read_results(store, ranking)), encoding="utf-8")
        studio = Studio(ModelWorker(find_models(str(EMBEDDED), None)), folder, "127.0.0.1")
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        picture_studio(browser, studio.address)
        picture_rating(browser, studio.address, store, real_synthetic, "rating.png")
        picture_rating(browser, studio.address, store, ranking, "ranking.png")
        visit(browser, (folder / "results.html").as_uri()).screenshot(path=ASSETS / "results.png")
        browser.close()
        store.database.close()
        studio.close()


if __name__ == "__main__":
    main()
