"""A subject of the user's own: ``train siamese`` on a new prompt ends with a folder that the page has all it wants of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from siamese.masks.segmenter import CompactUNet, LesionSegmenter
from siamese.masks.shapes import ShapeError, random_lesion
from siamese.models.checkpoint import load_checkpoint, save_checkpoint
from siamese.models.prompt_embeddings import PromptTable
from siamese.records.catalogue import describe
from siamese.records.prompts import LESION, POLYP
from siamese.records.subjects import FILE, read_subjects
from siamese.sampling import MaskDiffusion
from tests.models import PROMPTS, build
from tests.phantoms import phantom, write_folder, write_json_lines
from train import __main__ as command
from train.data.pairs import DataError
from train.engine import sample_sheet
from train.recipe import subject as own_subject
from train.recipe.run import AllConfig, workplace
from train.stages.siamese import SiameseStage, SiameseTrainConfig
from train.tools.publish import PublishConfig, publish, write_names

STAIN = "a stain on a white wall"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps on the log's sheets."""
    monkeypatch.setattr(sample_sheet.sheet.__wrapped__, "__defaults__", (1,))


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of polyps and lesions with a segmentation network and a licence."""
    folder = tmp_path_factory.mktemp("models") / "before"
    checkpoint = build("small")
    checkpoint.defaults = checkpoint.defaults.override(num_inference_steps=1)
    save_checkpoint(checkpoint, folder)
    (folder / "LICENSE").write_text("For research on polyps only.\n")
    LesionSegmenter(CompactUNet((8, 8, 8, 8)), 32).save_pretrained(folder / "segmenter")
    return folder


def words(start: Path, data: Path, out: Path, *more: str) -> list[str]:
    """The command for two updates."""
    given = {
        "--init": start,
        "--data": data,
        "--prompt": STAIN,
        "--cache": out / "cache",
        "--loop.out": out,
        "--loop.max-steps": 2,
        "--loop.batch-size": 2,
        "--loop.mixed-precision": "no",
    }
    return ["siamese", *(str(word) for pair in given.items() for word in pair), *more]


@pytest.mark.slow
class TestFewPairs:
    @pytest.fixture(scope="class")
    def trained(self, start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """The folder of a run on twelve pairs."""
        root = tmp_path_factory.mktemp("few")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sample_sheet.sheet.__wrapped__, "__defaults__", (1,))
            data = write_folder(root / "walls", 12)
            command.run_command(
                words(start, data, root / "run", "--name", "Stain on a wall", "--noun", "stain")
            )
        return root / "run"

    def test_the_table_has_grown_and_old_rows_are_the_same(self, start: Path, trained: Path) -> None:
        old, new = load_checkpoint(start).context, load_checkpoint(trained / "model").context
        assert isinstance(old, PromptTable)
        assert isinstance(new, PromptTable)
        assert new.prompts == (*PROMPTS, STAIN)
        assert torch.equal(new.table[: len(PROMPTS)], old.table)
        assert torch.equal(new.table, old.grown(STAIN).table)

    def test_it_samples_the_new_prompt_and_an_old_one(self, trained: Path) -> None:
        model = MaskDiffusion.from_pretrained(trained / "model", "cpu")
        images = [model.sample(phantom(40)[1], prompt, [1]) for prompt in (STAIN, POLYP)]
        assert images[0].shape == images[1].shape == (1, 64, 64, 3)
        assert (images[0] != images[1]).any()

    def test_metadata(self, trained: Path) -> None:
        entry = describe(str(trained / "model"))
        assert (entry.name, entry.title) == ("model", "Stain on a wall")
        stain, polyp, lesion = entry.subjects
        assert (stain.prompt, stain.name, stain.noun) == (STAIN, "Stain on a wall", "stain")
        assert len(stain.missing) == 2
        assert (polyp.prompt, lesion.prompt) == (POLYP, LESION)
        assert polyp.segmenter == "segmenter"
        assert entry.examples() == []  # a first visit begins with the stain, whose shapes are not known

    def test_card_and_licence_say_what_is_missing_and_where_it_comes_from(self, trained: Path) -> None:
        entry = describe(str(trained / "model"))
        assert entry.card.startswith("# Stain on a wall\n")
        assert '| Stain on a wall | "a stain on a white wall" | stain | no | no |' in entry.card
        assert all(sentence in entry.card for sentence in entry.subjects[0].missing)
        assert "`train` splits of: walls" in entry.card
        assert "started from the weights before" in entry.card
        assert "(samples.png)" in entry.card
        assert str(trained.parent) not in entry.card
        assert "    For research on polyps only." in entry.licence
        assert "trained on: walls" in entry.licence

    def test_sheet_has_masks_and_synthetic_images(self, trained: Path) -> None:
        sheet = describe(str(trained / "model")).sheet
        assert sheet is not None
        image = np.asarray(Image.open(sheet))
        assert image.shape == (3 * 68 - 4, 6 * 68 - 4, 3)
        assert set(np.unique(image[:64, :64])) == {0, 255}
        assert len(np.unique(image[68:132, :64])) > 10

    def test_the_same_command_again_keeps_an_edited_card(
        self, start: Path, trained: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        card = trained / "model" / "README.md"
        text = card.read_text()
        again = words(start, trained.parent / "walls", trained, "--name", "Wall stain", "--noun", "stain")
        command.run_command(again)
        assert card.read_text().startswith(text[:60].replace("Stain on a wall", "Wall stain"))
        assert describe(str(trained / "model")).subjects[0].name == "Wall stain"
        card.write_text("edited")
        command.run_command(again)
        assert card.read_text() == "edited"
        assert "is kept" in capsys.readouterr().out
        card.write_text(text)
        command.run_command(words(start, trained.parent / "walls", trained, "--name", "Stain on a wall"))

    def test_published_elsewhere_it_keeps_names_and_sheet(self, trained: Path, tmp_path: Path) -> None:
        publish(PublishConfig(trained / "model", tmp_path / "walls", ("walls",)))
        ours, copy = describe(str(trained / "model")), describe(str(tmp_path / "walls"))
        assert copy.subjects == ours.subjects
        assert copy.title == ours.title
        assert copy.card.startswith(f"# {ours.title}\n")
        publish(PublishConfig(tmp_path / "walls", tmp_path / "walls"))
        assert describe(str(tmp_path / "walls")).subjects == ours.subjects, "on itself it loses nothing"
        assert copy.sheet is not None


@pytest.mark.slow
def test_from_100_pairs_on_it_has_its_own_segmenter_and_shapes(start: Path, tmp_path: Path) -> None:
    data, run = write_folder(tmp_path / "walls", 100, height=64), tmp_path / "run"
    more = ["--name", "Stain", "--noun", "stain", "--segmenter-updates", "1", "--variants", "1"]
    command.run_command(words(start, data, run, *more))
    entry = describe(str(run / "model"))
    stain, polyp, _ = entry.subjects
    assert (stain.segmenter, polyp.segmenter) == ("segmenters/stain", "segmenter")
    assert stain.missing == ()
    network = LesionSegmenter.from_pretrained(run / "model" / str(stain.segmenter))
    assert network.predict(np.zeros((1, 64, 64, 3), np.uint8)).shape == (1, 64, 64)
    statistics = entry.statistics(STAIN)
    assert statistics is not None
    assert statistics.count == 100
    assert random_lesion(statistics, 1, 64).any()
    assert [e.recipe.prompt for e in entry.examples()] == [STAIN, POLYP, LESION]
    assert "What is missing" not in entry.card
    assert "| segment | 1 |" in entry.card
    # A second subject keeps what the first has.
    second = write_folder(tmp_path / "cracks", 3)
    command.run_command(
        words(run / "model", second, tmp_path / "second", "--prompt", "a crack", "--name", "Crack")
    )
    entry = describe(str(tmp_path / "second" / "model"))
    assert [s.name for s in entry.subjects] == [
        "Crack",
        "Stain",
        "Colonoscopy polyp",
        "Dermoscopy skin lesion",
    ]
    assert [len(s.missing) for s in entry.subjects] == [2, 0, 0, 0]


def config(start: Path, data: Path, tmp_path: Path, prompt: str | None = STAIN) -> SiameseTrainConfig:
    base = SiameseTrainConfig((data,), start, prompt=prompt, cache=tmp_path / "cache")
    return replace(base, loop=replace(base.loop, out=tmp_path / "run"))


def test_prompts_in_files_are_not_added(start: Path, tmp_path: Path) -> None:
    data = write_folder(tmp_path / "walls", 2)
    lines = write_json_lines(tmp_path / "train.jsonl", data, STAIN)
    with pytest.raises(DataError, match="unknown prompt 'a stain"):
        SiameseStage(config(start, lines, tmp_path, prompt=None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Colonoscopy polyp"}, "another --name"),
        ({"name": "x" * 81}, "1 to 80 letters"),
        ({"name": "Stain", "noun": " "}, "--noun must have"),
    ],
)
def test_names_that_cannot_be_used(
    start: Path, tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    given = config(start, write_folder(tmp_path / "walls", 2), tmp_path)
    with pytest.raises(ValueError, match=message):
        own_subject.main(replace(given, subject=replace(given.subject, **changes)))
    assert not (tmp_path / "run").exists()


def test_one_name_for_several_prompts(start: Path, tmp_path: Path) -> None:
    data = write_folder(tmp_path / "walls", 2)
    lines = write_json_lines(tmp_path / "train.jsonl", data, POLYP)
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    rows[0]["prompt"] = LESION
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = config(start, lines, tmp_path, prompt=None)
    with pytest.raises(DataError, match="names one subject"):
        own_subject.main(replace(given, subject=replace(given.subject, name="Stain")))


def test_a_known_prompt_without_a_name_trains_as_before(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_subject.siamese, "main", lambda _: 7)
    assert own_subject.main(config(start, tmp_path, tmp_path, prompt=POLYP)) == 7
    assert own_subject.main(config(start, tmp_path, tmp_path, prompt=None)) == 7


@pytest.mark.parametrize(("rank", "says"), [("0", True), ("1", False)])
def test_under_torchrun_the_rest_is_left_to_one_process(
    start: Path,
    tmp_path: Path,
    rank: str,
    says: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = config(start, write_folder(tmp_path / "walls", 2), tmp_path)
    monkeypatch.setattr(own_subject.siamese, "main", lambda _: given.loop.max_steps)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    own_subject.main(given)
    assert ("without torchrun" in capsys.readouterr().out) == says


class TestNames:
    """``publish --names`` and ``all --name``."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "context").mkdir(parents=True)
        (tmp_path / "context" / "prompts.json").write_text(json.dumps(["", POLYP, STAIN]))
        (tmp_path / "segmenter").mkdir()
        return tmp_path

    def test_of_a_table_come_first_and_the_others_stay(self, folder: Path) -> None:
        write_names(PublishConfig(folder, folder, names=((STAIN, "Stain", "stain"),), title="Walls"))
        found = read_subjects(folder)
        assert [(s.name, s.noun, s.segmenter) for s in found.listed] == [
            ("Stain", "stain", "segmenter"),
            ("Colonoscopy polyp", "polyp", "segmenter"),
        ]
        assert found.title == "Walls"
        with pytest.raises(ValueError, match="does not draw “a cat”"):
            write_names(PublishConfig(folder, folder, names=(("a cat", "Cat", "cat"),)))

    def test_of_free_text_are_the_only_ones(self, folder: Path) -> None:
        (folder / "context" / "prompts.json").unlink()
        write_names(PublishConfig(folder, folder, names=((STAIN, "Stain", "stain"),)))
        assert [s.name for s in read_subjects(folder).listed] == ["Stain"]
        write_names(PublishConfig(folder, folder, names=(("a crack", "Crack", "crack"),)))
        assert [s.name for s in read_subjects(folder).listed] == ["Crack", "Stain"]

    def test_nothing_named_leaves_no_file(self, folder: Path) -> None:
        write_names(PublishConfig(folder, folder))
        assert not (folder / FILE).exists()

    def test_damaged_shapes_are_refused(self, folder: Path) -> None:
        (folder / "other.json").write_text("{}")
        with pytest.raises(ShapeError, match="format"):
            write_names(PublishConfig(folder, folder, shapes=folder / "other.json"))

    def test_all_wants_a_prompt_with_a_name(self) -> None:
        with pytest.raises(ValueError, match="one --prompt"):
            workplace(AllConfig((Path("pairs"),), name="Stain", weights=Path("none")))
