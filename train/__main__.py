"""Command line: ``python -m train COMMAND --help``."""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Command:
    """A stage or a tool. It is imported when it is run, because that imports torch: ``--help`` of all takes no second."""

    module: str
    configuration: str
    """Class of the options; ``module`` has ``main(configuration)``."""
    summary: str

    def load(self) -> tuple[Any, type]:
        """Module and class of the options."""
        module = importlib.import_module(self.module)
        return module, getattr(module, self.configuration)


STAGES = {
    "all": Command(
        "train.recipe.run",
        "AllConfig",
        "every stage of a preset's recipe in order, to a folder that the app opens: begin here",
    ),
    "vae": Command("train.stages.autoencoder", "VaeConfig", "autoencoder of the images"),
    "base": Command(
        "train.stages.base", "BaseConfig", "latent diffusion model of images and prompts, without masks"
    ),
    "transplant": Command(
        "train.tools.swap_autoencoder",
        "SwapConfig",
        "move a model to another autoencoder, to train it further",
    ),
    "siamese": Command(
        "train.recipe.subject",
        "SiameseTrainConfig",
        "Mask-Diffusion by the Siamese algorithm; also fine-tunes on your own pairs, of a subject of your own",
    ),
    "decoder": Command(
        "train.stages.decoder",
        "DecoderConfig",
        "the autoencoder's decoder, on latents that the denoiser has made",
    ),
    "segment": Command("train.stages.segmenter", "SegmentConfig", "segmentation network"),
    "shapes": Command(
        "train.stages.lesion_shapes", "ShapesConfig", "statistics of lesion shapes, for random lesions"
    ),
    "sample": Command("train.tools.synthesise", "SampleConfig", "synthesise a data set of image-mask pairs"),
    "evaluate": Command(
        "train.evaluation.evaluate",
        "EvaluateConfig",
        "figures of a model: distances, diversity, mask agreement",
    ),
    "memorisation": Command(
        "train.evaluation.memorisation", "MemorisationConfig", "nearest training images of samples"
    ),
    "publish": Command(
        "train.tools.publish",
        "PublishConfig",
        "model folder for distribution: half precision, licence, sampling defaults",
    ),
    "bench": Command(
        "train.tools.bench",
        "BenchConfig",
        "cost of a step beside the released algorithm's, and of sampling",
    ),
}


def parse(name: str, arguments: list[str]) -> Any:
    """Configuration of the command ``name``: its defaults, or those of ``--preset``, and the options in their place.

    Raises:
        SystemExit: ``--help``, or options that cannot be read.
    """
    import tyro

    from train.recipe.presets import default_of

    _, configuration = STAGES[name].load()
    preset = preset_of(arguments)
    default = None if preset is None else default_of(name, preset)
    return tyro.cli(configuration, args=arguments, default=default, prog=f"python -m train {name}")


def preset_of(arguments: list[str]) -> str | None:
    """The value of ``--preset`` in ``arguments``, or None."""
    for option, value in zip(arguments, [*arguments[1:], ""], strict=True):
        if option == "--preset":
            return value
        if option.startswith("--preset="):
            return option.partition("=")[2]
    return None


def run_command(arguments: list[str]) -> None:
    """Parse ``COMMAND [options]`` and run it; errors of the user's end with their message and status 1, Ctrl-C with 130."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: python -m train STAGE [options]    (python -m train STAGE --help lists them)\n")
        print("\n".join(f"  {name:14}{command.summary}" for name, command in STAGES.items()))
        return
    name = arguments[0]
    if name not in STAGES:
        sys.exit(f"unknown stage {name!r}; choose from {', '.join(STAGES)}.")
    # Only now: these import torch.
    from siamese.masks.segmenter import SegmenterError
    from siamese.models.checkpoint import CheckpointError
    from train.engine import signals
    from train.engine.checkpoints import ResumeError, SaveError
    from train.engine.disk import DiskFull, is_full
    from train.engine.messages import STOPPED

    module, _ = STAGES[name].load()
    config = parse(name, arguments[1:])
    try:
        module.main(config)
    except (
        ValueError,
        FloatingPointError,
        ResumeError,
        SaveError,
        CheckpointError,
        SegmenterError,
        FileNotFoundError,
        DiskFull,
    ) as error:
        sys.exit(f"{type(error).__name__}: {error}")  # the user can correct it: no traceback
    except KeyboardInterrupt:
        sys.exit(STOPPED)  # the loop has printed what to do; before it nothing is lost
    except Exception as error:
        if not is_full(error):
            raise
        file = getattr(error, "filename", None)
        place = f" for {file}" if file else ""
        sys.exit(f"DiskFull: no space is left on the disk{place}. Make space; then the same command goes on.")
    if signals.interrupted():
        sys.exit(STOPPED)  # so that a script does not go on to the next stage with half a model


if __name__ == "__main__":
    run_command(sys.argv[1:])
