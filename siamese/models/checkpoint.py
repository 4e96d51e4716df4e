"""A model as a folder in diffusers' format: networks, scheduler, prompts' context and sampling defaults.

model_index.json   loads in diffusers as a StableDiffusionControlNetPipeline
vae/ unet/ controlnet/ scheduler/
context/           context.safetensors + prompts.json (trained from scratch), or
tokenizer/ text_encoder/   (Stable Diffusion)
siamese.json       image size, and the settings of sampling that the model was chosen with
"""

from __future__ import annotations

import hashlib
import importlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import diffusers
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from torch import Tensor, nn

from siamese.diffusion import Prediction, alphas_of_betas, scaled_linear_alphas
from siamese.files.atomic import replacing_files
from siamese.models.autoencoder import SmallAutoencoder, downsampling, latent_channels
from siamese.models.controlnet import SiameseControlNet
from siamese.models.modules import config_of
from siamese.models.prompt_embeddings import PromptTable, TextContext
from siamese.records.sampling_settings import SamplingSettings


class CheckpointError(RuntimeError):
    """A checkpoint folder is missing, incomplete or inconsistent; the message says which part and what to do."""


@dataclass
class Checkpoint:
    """The networks of one model. ``controlnet`` is None before the Siamese stage."""

    vae: nn.Module
    unet: UNet2DConditionModel
    controlnet: SiameseControlNet | None
    context: PromptTable | TextContext
    scheduler_config: dict[str, Any]
    defaults: SamplingSettings = field(default_factory=SamplingSettings)
    """What the model was chosen with."""
    name: str = "model"
    image_size: int = 384
    """Side of images and hints in pixels."""

    @property
    def alphas_cumprod(self) -> Tensor:
        """a_t [T] of the noise schedule."""
        c = self.scheduler_config
        if c.get("trained_betas") is not None:
            return alphas_of_betas(c["trained_betas"])
        if c.get("beta_schedule") != "scaled_linear":
            raise CheckpointError(
                f"noise schedule {c.get('beta_schedule')!r}: only scaled_linear (Stable Diffusion's) and a table of betas (trained_betas) are supported."
            )
        return scaled_linear_alphas(c["beta_start"], c["beta_end"], c["num_train_timesteps"])

    @property
    def prediction(self) -> Prediction:
        """What the U-Net puts out."""
        return self.scheduler_config.get("prediction_type", "epsilon")

    def networks(self) -> list[nn.Module]:
        """All modules with weights."""
        return [m for m in (self.vae, self.unet, self.controlnet, self.context) if m is not None]

    def to(self, *args: Any, **kwargs: Any) -> Checkpoint:
        """Move or cast all networks."""
        for module in self.networks():
            module.to(*args, **kwargs)
        return self

    def check(self) -> None:
        """Raise CheckpointError if the parts do not fit each other."""
        channels = latent_channels(self.vae)
        if config_of(self.unet).in_channels != channels:
            raise CheckpointError(
                f"the U-Net takes {config_of(self.unet).in_channels} latent channels, the autoencoder makes {channels}."
            )
        factor, size = downsampling(self.vae), self.image_size
        if size % (factor * 2 ** (len(config_of(self.unet).block_out_channels) - 1)):
            raise CheckpointError(
                f"image size {size} is not a multiple of {factor * 2 ** (len(config_of(self.unet).block_out_channels) - 1)}."
            )
        if self.controlnet is not None and 2**self.controlnet.config.hint_mergings != factor:
            raise CheckpointError(
                f"the hint block halves {self.controlnet.config.hint_mergings} times, the autoencoder makes sides {factor} times smaller."
            )


def save_checkpoint(checkpoint: Checkpoint, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Write ``checkpoint`` to ``folder``; ``dtype`` (for example torch.float16) is that of the stored weights.

    A model that is there before is replaced file by file once the new one is whole.

    Raises:
        OSError: the disk is full or refuses; ``folder`` is as it was.
    """
    with replacing_files(Path(folder)) as part:
        part.mkdir(parents=True)
        _write_parts(checkpoint, part, dtype)


def _write_parts(checkpoint: Checkpoint, folder: Path, dtype: torch.dtype | None) -> None:
    index: dict[str, Any] = {
        "_class_name": "StableDiffusionControlNetPipeline",
        "_diffusers_version": diffusers.__version__,
    }
    for part in ("vae", "unet", "controlnet"):
        module = getattr(checkpoint, part)
        if module is None:
            continue
        _save_network(module, folder / part, dtype)
        library = "diffusers" if type(module).__module__.startswith("diffusers") else "siamese.models"
        index[part] = [library, type(module).__name__]
    scheduler = _scheduler_class("DDIMScheduler").from_config(checkpoint.scheduler_config)
    scheduler.save_pretrained(folder / "scheduler")
    index["scheduler"] = ["diffusers", "DDIMScheduler"]
    checkpoint.context.save(folder / "context")
    text = isinstance(checkpoint.context, TextContext)
    index["tokenizer"] = ["transformers", "CLIPTokenizer"] if text else [None, None]
    index["text_encoder"] = ["transformers", "CLIPTextModel"] if text else [None, None]
    index |= {
        "feature_extractor": [None, None],
        "safety_checker": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=1) + "\n")
    settings = {"image_size": checkpoint.image_size, **checkpoint.defaults.to_dict()}
    (folder / "siamese.json").write_text(json.dumps(settings, indent=1) + "\n")


def _save_network(module: nn.Module, folder: Path, dtype: torch.dtype | None) -> None:
    original = {name: p.data for name, p in module.named_parameters()}
    try:
        if dtype is not None:
            for p in module.parameters():
                p.data = p.data.to(dtype)
        cast(Any, module).save_pretrained(folder)  # a network of diffusers
    finally:
        for name, p in module.named_parameters():
            p.data = original[name]
    # Do not store the local path.
    file = folder / "config.json"
    config = {k: v for k, v in json.loads(file.read_text()).items() if k != "_name_or_path"}
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _scheduler_class(name: str) -> type:
    # Only the submodule in use: importing all of diffusers takes seconds on a small machine.
    modules = {
        "DDIMScheduler": "scheduling_ddim",
        "DPMSolverMultistepScheduler": "scheduling_dpmsolver_multistep",
    }
    return getattr(importlib.import_module(f"diffusers.schedulers.{modules[name]}"), name)


def load_checkpoint(source: str | Path) -> Checkpoint:
    """Load a folder, or a model of that layout from the Hugging Face Hub, in float32 on the CPU.

    Raises:
        CheckpointError: it is not there, a part is missing, or the parts do not fit.
    """
    folder = find_folder(source)
    try:
        index = (
            json.loads((folder / "model_index.json").read_text())
            if (folder / "model_index.json").is_file()
            else {}
        )
        # A base model has no ControlNet; a model whose index lists one was not copied whole without it.
        for part in ("vae", "unet", "scheduler", *(["controlnet"] if "controlnet" in index else [])):
            if not (folder / part).is_dir():
                raise CheckpointError(
                    f"{folder}: no {part}/ folder; a model needs vae/, unet/, scheduler/ and controlnet/ in diffusers' format."
                )
        vae = _vae_class(index).from_pretrained(folder / "vae", torch_dtype=torch.float32)
        unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
        controlnet = (
            SiameseControlNet.from_pretrained(folder / "controlnet", torch_dtype=torch.float32)
            if (folder / "controlnet").is_dir()
            else None
        )
        scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
        context = _load_context(folder)
        size, defaults = _load_settings(folder / "siamese.json")
    except CheckpointError:
        raise
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(f"{folder} cannot be loaded ({error}). Is the download complete?") from error
    checkpoint = Checkpoint(
        vae=vae.eval(),
        unet=unet.eval(),
        controlnet=controlnet.eval() if controlnet is not None else None,
        context=context.eval(),
        scheduler_config={k: v for k, v in scheduler.items() if not k.startswith("_")},
        defaults=defaults,
        name=folder.name,
        image_size=size,
    )
    checkpoint.check()
    return checkpoint


def find_folder(source: str | Path) -> Path:
    """The folder of a model: ``source`` itself, or the download of the Hugging Face Hub's model of that name.

    Raises:
        CheckpointError: it is neither.
    """
    folder = Path(source)
    return folder if folder.is_dir() else _download(str(source))


def weights_hash(folder: Path) -> str:
    """SHA-256 of all weights of a model folder, with their names.

    Raises:
        FileNotFoundError: the folder holds no weights.
    """
    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder}: no *.safetensors here; give a model folder.")
    digest = hashlib.sha256()
    for file in files:
        digest.update(
            file.relative_to(folder).as_posix().encode() + hashlib.sha256(file.read_bytes()).digest()
        )
    return digest.hexdigest()


_PARTS = [
    f"{part}/*.{kind}"
    for part in ("vae", "unet", "controlnet", "scheduler", "context", "tokenizer", "text_encoder")
    for kind in ("json", "txt", "safetensors")
]


def _download(name: str) -> Path:
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise CheckpointError(f"{name}: no such folder.")
    try:
        # Stable Diffusion's repositories hold the weights several times over; only the parts' float32 files are read.
        return Path(
            snapshot_download(
                name,
                allow_patterns=["model_index.json", "siamese.json", "*.md", "LICENSE*", *_PARTS],
                ignore_patterns=["*.fp16.*", "*.non_ema.*"],
            )
        )
    except Exception as error:  # hub, network and authorisation errors share no base class
        raise CheckpointError(
            f"{name}: neither a local folder nor loadable from the Hugging Face Hub ({error})."
        ) from error


def _load_settings(file: Path) -> tuple[int, SamplingSettings]:
    """Image size and settings; the paper's for a folder of diffusers' own, which has no such file."""
    if not file.is_file():
        return Checkpoint.image_size, SamplingSettings()
    values = json.loads(file.read_text())
    return int(values.pop("image_size", Checkpoint.image_size)), SamplingSettings.from_dict(values)


def _vae_class(index: dict[str, Any]) -> type:
    library, name = index.get("vae", ("diffusers", "AutoencoderKL"))
    if name == SmallAutoencoder.__name__:
        return SmallAutoencoder
    if name == "AutoencoderKL" and library == "diffusers":
        from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

        return AutoencoderKL
    raise CheckpointError(
        f"autoencoder class {library}.{name} is not supported; use AutoencoderKL or {SmallAutoencoder.__name__}."
    )


def _load_context(folder: Path) -> PromptTable | TextContext:
    if (folder / "context" / "context.safetensors").is_file():
        return PromptTable.load(folder / "context")
    if (folder / "context").is_dir() and not (folder / "text_encoder").is_dir():
        raise CheckpointError(f"{folder}: context/ has no context.safetensors.")
    if (folder / "text_encoder").is_dir():
        if not (folder / "tokenizer").is_dir():
            raise CheckpointError(f"{folder}: no tokenizer/ beside text_encoder/.")
        from transformers import CLIPTextModel, CLIPTokenizer

        return TextContext(
            CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            CLIPTextModel.from_pretrained(folder / "text_encoder"),
        )
    raise CheckpointError(
        f"{folder}: neither context/ (a table of prompts) nor text_encoder/ with tokenizer/."
    )
