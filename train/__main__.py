"""Command line: ``python -m train STAGE --help``."""

from __future__ import annotations

import importlib
import sys

import tyro

# Stage: (module, configuration, what it does). Imported when named, so that --help is quick.
STAGES = {
    "all": (
        "train.recipe.run",
        "AllConfig",
        "every stage of the recipe in order, to a folder that the app opens: begin here",
    ),
    "vae": ("train.stages.autoencoder", "VaeConfig", "autoencoder of the images"),
    "base": (
        "train.stages.base",
        "BaseConfig",
        "latent diffusion model of images and prompts, without masks",
    ),
    "transplant": (
        "train.tools.swap_autoencoder",
        "TransplantConfig",
        "move a model to another autoencoder, to train it further",
    ),
    "siamese": (
        "train.stages.siamese",
        "SiameseTrainConfig",
        "Mask-Diffusion by the Siamese algorithm; also fine-tunes on your own pairs",
    ),
    "decoder": (
        "train.stages.decoder",
        "DecoderConfig",
        "the autoencoder's decoder, on what the denoiser leaves of latents",
    ),
    "segment": ("train.stages.segmenter", "SegmentConfig", "segmentation network"),
    "shapes": (
        "train.stages.lesion_shapes",
        "ShapesConfig",
        "statistics of lesion shapes, for random lesions",
    ),
    "sample": ("train.tools.synthesise", "SampleConfig", "synthesise a data set of image-mask pairs"),
    "evaluate": (
        "train.evaluation.evaluate",
        "EvaluateConfig",
        "figures of a model: distances, diversity, mask agreement",
    ),
    "memorisation": (
        "train.evaluation.memorisation",
        "MemorisationConfig",
        "nearest training images of samples",
    ),
    "publish": (
        "train.tools.publish",
        "PublishConfig",
        "model folder for distribution: half precision, licence, sampling defaults",
    ),
    "bench": (
        "train.tools.bench",
        "BenchConfig",
        "cost of a step beside the released algorithm's, and of sampling",
    ),
}


def run(arguments: list[str]) -> None:
    """Parse ``STAGE [options]`` and run it; errors of the user's end with their message and status 1, Ctrl-C with 130."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: python -m train STAGE [options]    (python -m train STAGE --help lists them)\n")
        print("\n".join(f"  {name:14}{what}" for name, (_, _, what) in STAGES.items()))
        return
    name = arguments[0]
    if name not in STAGES:
        sys.exit(f"unknown stage {name!r}; choose from {', '.join(STAGES)}.")
    # Only now: these import torch.
    from siamese.models.checkpoint import CheckpointError
    from siamese.models.segmenter import SegmenterError
    from train.engine.checkpoints import ResumeError, SaveError
    from train.engine.disk import DiskFull, is_full
    from train.engine.loop import interrupted
    from train.engine.messages import STOPPED

    where, configuration, _ = STAGES[name]
    module = importlib.import_module(where)
    config = tyro.cli(getattr(module, configuration), args=arguments[1:], prog=f"python -m train {name}")
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
        sys.exit(f"{type(error).__name__}: {error}")  # the user's to mend: no traceback
    except KeyboardInterrupt:
        sys.exit(STOPPED)  # what there is to say, the loop has said; before it nothing is lost
    except Exception as error:
        if not is_full(error):
            raise
        place = f" for {error.filename}" if getattr(error, "filename", None) else ""
        sys.exit(f"DiskFull: no space is left on the disk{place}. Make space; then the same command goes on.")
    if interrupted():
        sys.exit(STOPPED)  # so that a script does not go on to the next stage with half a model


if __name__ == "__main__":
    run(sys.argv[1:])
