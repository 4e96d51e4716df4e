"""Methods that are sampled from a checkpoint while the study is made."""

from __future__ import annotations

import io
import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select

from siamese.models.checkpoint import save_checkpoint, weights_hash
from siamese.records.prompts import LESION, POLYP
from siamese.records.sampling_settings import SETTINGS
from siamese.sampling import MaskDiffusion
from siamese.study.__main__ import main
from siamese.study.config import ConfigError, Method
from siamese.study.creation import generated
from siamese.study.creation.generated import Sampled, create_sampled_study, image_seed, parse_all
from siamese.study.storage.opening import open_store
from siamese.study.storage.schema import images as pictures
from siamese.study.storage.schema import items
from siamese.study.storage.store import StudyError
from tests.models import build
from tests.phantoms import phantom
from tests.study.admin_pages import log_in, zipped
from tests.study.phantom_study import config, write_folders

REAL = (Method("real", "real"),)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A model folder; images of 64 x 64, four steps of DDIM."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_checkpoint(build("small"), folder)
    return folder


@pytest.fixture
def store(tmp_path):
    (tmp_path / "data").mkdir()
    made = open_store(tmp_path / "data")
    yield made
    made.database.close()


@pytest.fixture
def images(tmp_path) -> Path:
    """``real/`` with five images and ``masks/`` with their masks."""
    write_folders(tmp_path / "images", 5, REAL)
    write_masks(tmp_path / "images" / "masks", range(5))
    return tmp_path / "images"


def write_masks(folder: Path, numbers) -> Path:
    folder.mkdir()
    for i in numbers:
        Image.fromarray(phantom(i)[1]).save(folder / f"mask {i:03d}.png")
    return folder


def create(images: Path, *more: str, id: str = "one", data: str = "data") -> None:
    main(
        [
            "create",
            str(images),
            "--id",
            id,
            "--title",
            "One",
            "--display-side",
            "128",
            "--data",
            str(images.parent / data),
            *more,
        ]
    )


def stored(store, study: str) -> dict[tuple[str, str], np.ndarray]:
    """The study's images uint8 [128, 128, 3] by mask and method."""
    with store.database.read() as connection:
        rows = connection.execute(
            select(items.c.group_name, items.c.method, pictures.c.data)
            .join(pictures, pictures.c.item_id == items.c.id)
            .where(items.c.study_id == study)
        )
        return {(r.group_name, r.method): np.array(Image.open(io.BytesIO(r.data))) for r in rows}


@pytest.mark.slow
def test_only_chosen_masks_are_sampled_and_everything_is_recorded(images, tiny, store, capsys, monkeypatch):
    calls = []
    original = MaskDiffusion.sample_fitted
    monkeypatch.setattr(
        MaskDiffusion,
        "sample_fitted",
        lambda self, masks, prompt, seeds, settings, **k: (
            calls.append((prompt, list(seeds), settings)),
            original(self, masks, prompt, seeds, settings, **k),
        )[1],
    )
    create(
        images,
        "--masks",
        str(images / "masks"),
        "--sample",
        f"ours={tiny}",
        "--sample",
        f"fast={tiny}:steps=1,guidance=1,scheduler=dpm++",
        "--groups",
        "2",
        "--training",
        "2",
        "--seed",
        "7",
    )
    out = capsys.readouterr().out
    assert "ours: 3 of 3 images sampled" in out
    assert "fast: 3 of 3 images sampled" in out
    assert "2 groups of 3 methods" in out
    study = store.study("one")
    assert [(m.name, m.kind) for m in study.config.methods] == [
        ("real", "real"),
        ("ours", "synthetic"),
        ("fast", "synthetic"),
    ]
    first, second = (json.loads(m.source) for m in study.config.synthetic)
    assert first | {"masks_sha256": "", "seeds": "", "version": ""} == {
        "model": "tiny",
        "weights_sha256": weights_hash(tiny),
        "prompt": POLYP,
        "num_inference_steps": 4,
        "guidance_scale": 3.0,
        "scheduler": "ddim",
        "guidance_mode": "prompt",
        "guidance_rescale": 0.0,
        "guidance_interval": [0.0, 1.0],
        "side": 64,
        "masks_sha256": "",
        "seeds": "",
        "version": "",
    }
    assert (
        second["num_inference_steps"],
        second["guidance_scale"],
        second["scheduler"],
        second["masks_sha256"],
    ) == (
        1,
        1.0,
        "dpm++",
        first["masks_sha256"],
    )
    assert str(tiny.parent) not in study.config.canonical()
    assert study.config.hash() == study.config_hash
    masks = {mask for mask, _ in stored(store, "one")}
    assert len(masks) == 3
    assert [len(seeds) for _, seeds, _ in calls] == [3, 3]
    assert set(calls[0][1]) == {image_seed(7, "ours", m) for m in masks}
    assert set(calls[1][1]) == {image_seed(7, "fast", m) for m in masks}


@pytest.mark.slow
def test_the_record_makes_the_images_again(images, tiny, store):
    create(images, "--masks", str(images / "masks"), "--sample", f"ours={tiny}:steps=2", "--organ", "Lesion")
    made = json.loads(store.study("one").config.synthetic[0].source)
    assert made["prompt"] == LESION
    model, found = MaskDiffusion.from_pretrained(tiny, "cpu"), stored(store, "one")
    for i in range(5):
        name = f"mask {i:03d}"
        settings = {k: made[k] for k in SETTINGS}
        (image,) = model.sample(phantom(i)[1], made["prompt"], [image_seed(0, "ours", name)], **settings)
        # Real images are 64 x 48: the least height is everybody's; what is stored has its shape.
        shown = Image.fromarray(image).resize((64, 48), Image.Resampling.BOX).resize((128, 96))
        assert found[name, "ours"].shape == (96, 128, 3) == found[name, "real"].shape
        assert np.abs(found[name, "ours"].astype(int) - np.array(shown)).mean() < 12
    again = np.abs(found["mask 000", "ours"].astype(int) - found["mask 001", "ours"]).mean()
    assert again > 12  # another seed and mask is another image: the bound above means something


@pytest.mark.slow
def test_the_same_command_gives_the_same_study_and_another_seed_another(images, tiny, store):
    more = ("--masks", str(images / "masks"), "--sample", f"ours={tiny}:steps=1")
    for id, seed in (("one", "0"), ("two", "0"), ("three", "1")):
        create(images, *more, "--seed", seed, id=id)
    one, two, three = (store.study(id) for id in ("one", "two", "three"))
    assert one.content_hash == two.content_hash != three.content_hash
    assert one.config.methods == two.config.methods


def test_seeds_differ_by_method_mask_and_study():
    seeds = [image_seed(*a) for a in ((0, "a", "x"), (0, "b", "x"), (0, "a", "y"), (1, "a", "x"))]
    assert len(set(seeds)) == 4
    assert seeds[0] == image_seed(0, "a", "x")
    assert all(0 <= s < 2**32 for s in seeds)


def test_parse():
    assert Sampled.parse("ours=some/folder") == Sampled("ours", "some/folder")
    assert Sampled.parse(
        r"my method = C:\models\a : steps=50, guidance=2,scheduler=ddim,guide=mask"
    ) == Sampled(
        "my method",
        r"C:\models\a",
        {"num_inference_steps": 50, "guidance_scale": 2.0, "scheduler": "ddim", "guidance_mode": "mask"},
    )
    assert Sampled.parse("ours=a:guidance_interval=0.3-0.8").overrides == {"guidance_interval": (0.3, 0.8)}
    assert Sampled.parse("ours=a:guide_above=0.3").overrides == {"guide_above": 0.3}
    assert Sampled.parse(r"ours=C:\models\a").model == r"C:\models\a"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ours", "NAME=MODEL"),
        ("=folder", "NAME=MODEL"),
        ("ours=", "NAME=MODEL"),
        ("ours=a:step=3", "'step' is unknown; use num_inference_steps, guidance_scale"),
        ("ours=a:steps=3,steps=4", "given twice"),
        ("ours=a:steps=2.5", "whole number, not '2.5'"),
        ("ours=a:guidance=much", "number, not 'much'"),
        ("ours=a:guidance_interval=0.3", "two numbers as in 0.3-0.8, not '0.3'"),
        ("ours=a:steps=3,num_inference_steps=4", "given twice"),
        ("ours=a:steps=3,4", "'4' is unknown"),
    ],
)
def test_parse_errors(text, message):
    with pytest.raises(ConfigError, match=message):
        Sampled.parse(text)
    with pytest.raises(ConfigError) as error:
        parse_all([text, "good=a", text])
    assert len(error.value.problems) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--sample", "ours={tiny}:scheduler=euler"], "unknown scheduler 'euler'"),
        (["--sample", "ours={tiny}:steps=0"], "num_inference_steps is 0"),
        (["--sample", "ours={tiny}:guidance=0.5"], "guidance_scale is 0.5"),
        (["--sample", "ours={tiny}:guidance=nan"], "guidance_scale is nan"),
        (["--sample", "ours={tiny}:guide=image"], "unknown guidance_mode 'image'"),
        (["--sample", "ours={tiny}:rescale=2"], "guidance_rescale is 2"),
        (["--sample", "ours={tiny}:guide_above=2"], "guidance_interval is 2 to 1"),
        (["--sample", "ours={tiny}:fast=yes"], "'fast' is unknown"),
        (["--sample", "ours=/no/such/model"], "/no/such/model: no such folder. Name a model folder"),
        (["--sample", "ours={images}"], "model"),
        (
            ["--sample", "ours={tiny}", "--organ", "liver"],
            "'liver' has no known prompt to sample with; use polyp or lesion",
        ),
        (["--sample", "ours={tiny}", "--prompt", "a cat"], "unknown prompt 'a cat'"),
        (["--sample", "real={tiny}"], "two methods are named 'real'"),
        (
            ["--sample", "ours={tiny}", "--groups", "6"],
            "5 masks have an image of every method that is not sampled; 6 are needed",
        ),
        ([], "no method to sample"),
    ],
)
def test_nothing_is_made_of_bad_settings(images, tiny, store, capsys, monkeypatch, more, message):
    monkeypatch.setattr(
        MaskDiffusion, "sample_fitted", lambda *a, **k: pytest.fail("sampled before everything was checked")
    )
    with pytest.raises(SystemExit, match="1"):
        create(images, "--masks", str(images / "masks"), *(m.format(tiny=tiny, images=images) for m in more))
    assert message in capsys.readouterr().err
    assert store.studies() == []


@pytest.mark.slow
def test_bad_files_are_named_before_sampling(images, tiny, store, capsys, monkeypatch):
    monkeypatch.setattr(
        MaskDiffusion, "sample_fitted", lambda *a, **k: pytest.fail("sampled before everything was checked")
    )

    def refused(*more: str, masks: Path = images / "masks") -> str:
        with pytest.raises(SystemExit, match="1"):
            create(images, "--masks", str(masks), "--sample", f"ours={tiny}", *more)
        assert store.studies() == []
        return capsys.readouterr().err

    write_masks(images.parent / "other", range(3, 8))
    message = refused("--groups", "5", masks=images.parent / "other")
    assert "2 masks have" in message
    assert "method 'real' has no image of mask 'mask 007'" in message
    assert "method 'ours' has no mask 'mask 000'" in message
    assert "no such folder" in refused(masks=images / "nowhere")
    Image.fromarray(np.zeros((48, 64), np.uint8)).save(images / "masks" / "mask 001.png")
    Image.fromarray(phantom(2)[0]).save(images / "masks" / "mask 002.png")
    message = refused()
    assert "mask mask 001.png: This mask is empty" in message
    assert "mask mask 002.png: This image is not a mask" in message
    write_masks(images.parent / "good", range(5))
    whole = (images / "real" / "mask 003.png").read_bytes()
    (images / "real" / "mask 003.png").write_bytes(whole[: len(whole) // 2])
    assert "real/mask 003.png: This image file is damaged" in refused(masks=images.parent / "good")


@pytest.mark.slow
def test_a_sample_without_masks_and_a_taken_id(images, tiny, store, capsys, monkeypatch):
    with pytest.raises(SystemExit, match="1"):
        create(images, "--sample", f"ours={tiny}")
    assert "name their folder (on the command line: --masks FOLDER)" in capsys.readouterr().err
    create(images, "--masks", str(images / "masks"), "--sample", f"ours={tiny}:steps=1", "--groups", "1")
    monkeypatch.setattr(
        generated,
        "load_samplers",
        lambda *a: pytest.fail("a model is loaded for a study that cannot be stored"),
    )
    methods = (*REAL, Method("ours", "synthetic"))
    with pytest.raises(StudyError, match="choose another id"):
        create_sampled_study(
            store,
            config(id="one", methods=methods),
            {"real": images / "real", "ours": images / "masks"},
            [Sampled("ours", str(tiny))],
        )


@pytest.mark.slow
def test_folders_and_samples_together_without_a_real_method(images, tiny, store):
    write_folders(images, 5, (Method("ControlNet", "synthetic"),))
    create(
        images,
        "--masks",
        str(images / "masks"),
        "--sample",
        f"ours={tiny}:steps=1",
        "--protocol",
        "ranking",
        "--real",
        "--groups",
        "2",
    )
    assert [(m.name, m.kind, bool(m.source)) for m in store.study("one").config.methods] == [
        ("ControlNet", "synthetic", False),
        ("real", "synthetic", False),
        ("ours", "synthetic", True),
    ]


@pytest.mark.slow
def test_the_administrators_form_samples(served, images, tiny):
    store, _, client = served
    values = {
        "csrf": log_in(client),
        "id": "sampled",
        "title": "Sampled",
        "protocol": "real_synthetic",
        "organ": "polyp",
        "real": "real",
        "groups": "0",
        "masks": "masks",
        "sample": f"ours={tiny}:steps=1\r\n\r\nmore={tiny}:steps=2\r\n",
    }

    def post(**changes) -> tuple[int, str]:
        reply = client.post(
            "/study/admin/create",
            data=values | changes,
            files={"archive": ("x.zip", zipped(images), "application/zip")},
        )
        return reply.status_code, reply.text

    for changes, message in [
        ({"masks": ""}, "name their folder"),
        ({"masks": "none"}, "no folder &#39;none&#39;"),
        ({"sample": ""}, "no method to sample"),
        ({"sample": "ours=/no/such/model"}, "no such folder"),
        ({"organ": "liver"}, "has no known prompt"),
    ]:
        status, text = post(**changes)
        assert status == 422
        assert message in text
    assert [s.config.id for s in store.studies()] == ["phantoms"]
    assert post()[0] == 303
    made = store.study("sampled").config
    assert made.groups == 5
    assert [m.name for m in made.methods] == ["real", "ours", "more"]
    assert json.loads(made.methods[2].source)["num_inference_steps"] == 2
    assert "more was sampled" in client.get("/study/admin/studies/sampled").text


@pytest.mark.slow
def test_each_few_images_are_sampled_in_a_turn(images, tiny, store):
    turns, inside = [], []

    @contextmanager
    def turn():
        inside.append(True)
        yield
        turns.append(inside.pop())

    methods = (Method("real", "real"), Method("ours", "synthetic"))
    create_sampled_study(
        store,
        config(id="turns", methods=methods, groups=5),
        {"real": images / "real", "ours": images / "masks"},
        [Sampled("ours", str(tiny), {"num_inference_steps": 1})],
        turn=turn,
    )
    assert turns == [True] * 2
    assert not inside
