"""Stages on data and models of the user's: no validation split, JSON lines, settings that do not fit."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass, replace
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator
from torch.utils.tensorboard import SummaryWriter

from siamese.models.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from siamese.models.presets import PRESETS
from siamese.models.prompt_embeddings import TextContext
from siamese.models.unet import encoder_is_frozen
from siamese.objective import SiameseConfig
from siamese.records.prompts import POLYP
from tests.models import SMALL, build, small_autoencoder
from tests.phantoms import write_folder, write_json_lines
from tests.train.stages import LOOP, real_stage
from train import __main__ as command
from train.data.pairs import DataError
from train.engine import loop, printing
from train.engine.loop import LoopConfig
from train.evaluation.autoencoder_figures import psnr
from train.stages.autoencoder import AutoencoderConfig, VaeConfig, VaeStage
from train.stages.base import BaseConfig, BaseStage
from train.stages.segmenter import SegmentConfig, SegmentStage
from train.stages.siamese import SiameseStage, SiameseTrainConfig

TINY_VAE = AutoencoderConfig(
    widths=(8, 8, 16, 16), encoder_layers=(1, 1, 1, 1), decoder_layers=(1, 1, 1, 1), latent_channels=4
)


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    save_checkpoint(build("small"), folder)
    return folder


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of the user's without split files."""
    return write_folder(tmp_path / "ward", 4)


def _loop(out: Path, **changes: object) -> LoopConfig:
    return LoopConfig(**(LOOP | {"out": out, "max_steps": 1, "batch_size": 2} | changes))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["folder", "json lines"])
def test_own_data_without_splits_trains_every_stage(
    layout: str, own: Path, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, cache = (
        (own if layout == "folder" else write_json_lines(tmp_path / "own.json", own, None),),
        tmp_path / "cache",
    )
    monkeypatch.setitem(PRESETS, "tiny", SMALL)
    stages = [
        VaeStage(
            VaeConfig(
                data,
                prompt=POLYP,
                size=64,
                crop=32,
                lpips_weight=0,
                model=TINY_VAE,
                loop=_loop(tmp_path / "vae"),
            )
        ),
        BaseStage(
            BaseConfig(
                data,
                vae=small_model / "vae",
                prompt=POLYP,
                size=64,
                cache=cache,
                loop=_loop(tmp_path / "base"),
            )
        ),
        SiameseStage(
            SiameseTrainConfig(data, small_model, prompt=POLYP, cache=cache, loop=_loop(tmp_path / "siamese"))
        ),
    ]
    for stage in stages:
        assert stage.size == 4
        assert stage.val is None
        assert loop.run(stage, stage.config.loop) == 1
    assert load_checkpoint(tmp_path / "base" / "model").context.prompts == (POLYP, "")
    assert load_checkpoint(tmp_path / "siamese" / "model").controlnet is not None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["siamese", "vae", "segment"])
def test_sheet_without_validation_pairs_shows_training_pairs(
    kind: str,
    own: Path,
    small_model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(printing, "_said", set())
    loop_config = _loop(tmp_path / "run", evaluate_every=1, max_steps=2)
    if kind == "siamese":
        stage = SiameseStage(
            SiameseTrainConfig(
                (own,), small_model, prompt=POLYP, variants=1, cache=tmp_path / "cache", loop=loop_config
            )
        )
    elif kind == "vae":
        stage = VaeStage(
            VaeConfig(
                (own,), prompt=POLYP, size=64, crop=32, lpips_weight=0, model=TINY_VAE, loop=loop_config
            )
        )
    else:
        stage = SegmentStage(SegmentConfig((own,), prompt=POLYP, size=32, loop=loop_config))
    loop.run(stage, loop_config)
    shown = {
        "siamese": "samples of training masks",
        "vae": "reconstructions of training images",
        "segment": "what is found in training images",
    }[kind]
    assert (
        capsys.readouterr().out.count(
            f"No val.txt, hence no validation figures: the log's sheets show {shown}."
        )
        == 1
    )
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), {IMAGES: 0}).Reload()
    [tag] = events.Tags()["images"]
    assert tag == {"siamese": "train/samples", "vae": "train/reconstruction", "segment": "train/found"}[kind]
    assert not [name for name in events.Tags()["scalars"] if name.startswith("val/")]
    assert [e.step for e in events.Images(tag)] == [1, 2]


@pytest.mark.slow
def test_images_without_any_words(
    own: Path, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "tiny", SMALL)
    stage = BaseStage(
        BaseConfig(
            (own,),
            vae=small_model / "vae",
            prompt="",
            size=64,
            cache=tmp_path / "cache",
            loop=_loop(tmp_path / "base"),
        )
    )
    assert loop.run(stage, stage.config.loop) == 1
    assert load_checkpoint(tmp_path / "base" / "model").context.prompts == ("",)


@pytest.mark.slow
def test_prompt_that_the_model_does_not_know_is_found_before_training(
    own: Path, small_model: Path, tmp_path: Path
) -> None:
    lines = write_json_lines(tmp_path / "train.jsonl", own, "a cat")  # --prompt would add it to the table
    for make in (
        lambda: SiameseStage(SiameseTrainConfig((lines,), small_model, cache=tmp_path)),
        lambda: BaseStage(BaseConfig((own,), init=small_model, prompt="a cat", size=64, cache=tmp_path)),
    ):
        with pytest.raises(DataError, match=r"4 of 4 pairs(.|\n)*3: unknown prompt 'a cat'"):
            make()


def test_base_settings_that_do_not_fit(
    own: Path, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CheckpointError, match="image size 80 is not a multiple of 32"):
        BaseStage(BaseConfig((own,), init=small_model, prompt=POLYP, size=80, cache=tmp_path))
    with pytest.raises(ValueError, match="makes 16 latent channels, preset sd15 takes 4"):
        BaseStage(
            BaseConfig((own,), vae=small_model / "vae", preset="sd15", prompt=POLYP, size=64, cache=tmp_path)
        )
    checkpoint = build("small")
    checkpoint.context = TextContext(None, torch.nn.Identity())
    monkeypatch.setattr("train.stages.base.load_checkpoint", lambda folder: checkpoint)
    with pytest.raises(ValueError, match="text encoder; the base stage trains a table"):
        BaseStage(BaseConfig((own,), init=small_model, prompt=POLYP, size=64, cache=tmp_path))


def test_autoencoder_settings_that_do_not_fit(own: Path) -> None:
    for change, message in (
        ({"size": 60}, "size is 60; it must be a multiple of 16"),
        ({"crop": 40}, "crop is 40"),
        ({"crop": 128}, "crop at most size"),
    ):
        with pytest.raises(ValueError, match=message):
            VaeStage(
                VaeConfig(
                    **(
                        {
                            "data": (own,),
                            "prompt": POLYP,
                            "size": 64,
                            "crop": 32,
                            "lpips_weight": 0,
                            "model": TINY_VAE,
                        }
                        | change
                    )
                )
            )
    with pytest.raises(FileNotFoundError, match=r"alexnet_lpips.safetensors: no perceptual weights"):
        VaeStage(VaeConfig((own,), prompt=POLYP, size=64, crop=32, weights=own, model=TINY_VAE))


@pytest.mark.slow
def test_fresh_weights_are_of_the_seed(
    own: Path, small_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "tiny", SMALL)
    base_model = tmp_path / "model"
    save_checkpoint(replace(load_checkpoint(small_model), controlnet=None), base_model)

    def weights(stage: str, seed: int) -> torch.Tensor:
        settings = {"prompt": POLYP, "loop": LoopConfig(seed=seed)}
        if stage == "vae":
            return VaeStage(
                VaeConfig((own,), size=64, crop=32, lpips_weight=0, model=TINY_VAE, **settings)
            ).module.vae.encoder.conv_in.weight
        if stage == "base":
            made = BaseStage(BaseConfig((own,), vae=small_model / "vae", size=64, cache=tmp_path, **settings))
            return torch.cat(
                [made.checkpoint.unet.conv_in.weight.flatten(), made.checkpoint.context.table.flatten()]
            )
        made = SiameseStage(SiameseTrainConfig((own,), base_model, cache=tmp_path, **settings))
        return made.checkpoint.controlnet.controlnet_cond_embedding.convs[0].weight

    for stage in ("vae", "base", "siamese"):
        torch.manual_seed(1)
        first = weights(stage, 0)
        torch.manual_seed(2)
        assert torch.equal(first, weights(stage, 0)), stage
        assert not torch.equal(first, weights(stage, 1)), stage


@pytest.mark.slow
def test_decoder_alone_keeps_the_latents(own: Path, tmp_path: Path) -> None:
    small_autoencoder().save_pretrained(tmp_path / "vae")
    stage = VaeStage(
        VaeConfig(
            (own,),
            prompt=POLYP,
            size=64,
            crop=32,
            lpips_weight=0,
            init=tmp_path / "vae",
            decoder_only=True,
            loop=_loop(tmp_path / "run", max_steps=2),
        )
    )
    before = {k: v.clone() for k, v in stage.module.vae.state_dict().items()}
    loop.run(stage, stage.config.loop)
    after = type(stage.module.vae).from_pretrained(tmp_path / "run" / "model" / "vae")
    for name, weight in after.state_dict().items():
        assert torch.equal(weight, before[name]) == name.startswith("encoder."), name
    assert after.config.scaling_factor == 0.7


@pytest.mark.slow
def test_training_the_encoder_too(polyps: Path, small_model: Path, tmp_path: Path) -> None:
    config = SiameseTrainConfig(
        (polyps,),
        small_model,
        train_encoder=True,
        variants=1,
        cache=tmp_path,
        loop=_loop(tmp_path / "run", warmup_steps=0),
    )
    stage = SiameseStage(config)
    assert not encoder_is_frozen(stage.checkpoint.unet)
    assert not stage.checkpoint.context.table.requires_grad
    before = stage.checkpoint.unet.conv_in.weight.detach().clone()
    loop.run(stage, config.loop)
    assert not torch.equal(before, load_checkpoint(tmp_path / "run" / "model").unet.conv_in.weight)
    assert encoder_is_frozen(SiameseStage(replace(config, train_encoder=False)).checkpoint.unet)


@pytest.mark.slow
def test_validation_figures_do_not_depend_on_the_step(
    polyps: Path, small_model: Path, tmp_path: Path
) -> None:
    for kind in ("base", "siamese"):
        stage, _ = real_stage(kind, polyps, small_model, tmp_path / kind)
        with SummaryWriter(str(tmp_path / kind)) as writer:
            assert stage.evaluate(1, writer) == stage.evaluate(5, writer)


def test_signal_to_noise() -> None:
    a = torch.zeros(2, 3, 4, 4)
    b = a + torch.tensor([0.2, 2.0]).reshape(2, 1, 1, 1)
    torch.testing.assert_close(psnr(a, b), torch.tensor([20.0, 0.0]))


@pytest.mark.slow
@pytest.mark.parametrize("stage", command.STAGES)
def test_help_of_each_stage(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.run_command([stage, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f"usage: python -m train {stage} " in said
    assert "options" in said


def _defaults(config: type, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Names and default values of all options of a configuration, those of its groups included."""
    for field in fields(config):
        value = field.default_factory() if field.default_factory is not MISSING else field.default
        if is_dataclass(value):
            yield from (
                (f"{prefix}{field.name}.{name}", getattr(value, name)) for name in value.__dataclass_fields__
            )
        else:
            yield f"{prefix}{field.name}", value


@pytest.mark.parametrize("stage", command.STAGES)
def test_no_stage_writes_anything_tracked_by_default(stage: str) -> None:
    """What it writes without a given folder lies in runs/, which git ignores; what it only reads is named here."""
    root = Path(__file__).parents[2]
    assert "runs/" in (root / ".gitignore").read_text().splitlines()
    read_only = {"weights": Path("weights")} | (
        {"model": Path("assets/siamese-tiny")} if stage == "bench" else {}
    )
    places = {
        name: value for name, value in _defaults(command.STAGES[stage].load()[1]) if isinstance(value, Path)
    }
    for name, place in places.items():
        assert place.parts[0] == "runs" or read_only.get(name.removeprefix("train.")) == place, (name, place)


@pytest.mark.parametrize("stage", ["vae", "base", "siamese", "decoder", "segment"])
def test_help_calls_nothing_the_papers_that_is_not(stage: str) -> None:
    """The loop's defaults differ from the paper's in every stage; its words do not say otherwise."""
    defaults = dict(_defaults(command.STAGES[stage].load()[1]))
    paper = {
        "loop.batch_size": 48,
        "loop.learning_rate": 1e-5,
        "loop.ema_decay": None,
        "loop.mixed_precision": "no",
    }
    assert all(defaults[name] != value for name, value in paper.items())
    assert "Defaults are the paper" not in LoopConfig.__doc__
    assert "Each stage has defaults of its own" in LoopConfig.__doc__


def test_the_documented_command_has_the_papers_settings() -> None:
    """The command in docs/algorithm.md gives the paper's settings, which the defaults do not."""
    page = (Path(__file__).parents[2] / "docs" / "algorithm.md").read_text()
    options = shlex.split(
        re.search(r"```sh\n(python -m train siamese --preset sd15 .*?)```", page, re.S)[1].replace("\\\n", "")
    )[4:]
    config = command.parse("siamese", options)
    paper = LoopConfig(config.loop.out)
    assert replace(config.loop, evaluate_every=0, checkpoint_every=0) == replace(
        paper, evaluate_every=0, checkpoint_every=0
    )
    assert (paper.max_steps, paper.batch_size, paper.learning_rate, paper.betas, paper.schedule) == (
        3000,
        48,
        1e-5,
        (0.9, 0.999),
        "constant",
    )
    assert config.variants == 1
    assert config.prompt_drop == 0.05
    assert not config.train_encoder
    assert config.objective == SiameseConfig()


def test_command_line_as_a_user_starts_it(capfd: pytest.CaptureFixture[str]) -> None:
    root = Path(__file__).parents[2]
    # As python -m does it; the list of commands comes without importing torch, which takes seconds.
    start = (
        "import runpy, sys; sys.argv = ['train', '--help']; runpy.run_module('train', run_name='__main__')"
    )
    checked = f"{start}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", checked], cwd=root).returncode == 0
    said = capfd.readouterr().out
    assert all(f"  {stage} " in said for stage in command.STAGES)


def test_users_errors_end_without_traceback(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="unknown stage 'bass'; choose from all, vae, base"):
        command.run_command(["bass"])
    with pytest.raises(SystemExit, match=r"DataError: .*nowhere: expected a folder"):
        command.run_command(["vae", "--data", str(tmp_path / "nowhere"), "--lpips-weight", "0"])
