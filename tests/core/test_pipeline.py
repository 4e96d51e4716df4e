"""Model folders in diffusers' own ControlNet pipeline, and our sampler beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionControlNetPipeline

from siamese.models.checkpoint import load_checkpoint
from siamese.models.controlnet import SiameseControlNet
from siamese.models.dense_hint import mask_hint
from siamese.records.prompts import POLYP
from siamese.sampling import MaskDiffusion, initial_noise


def _pipeline(folder: Path) -> StableDiffusionControlNetPipeline:
    ours = SiameseControlNet.from_pretrained(folder / "controlnet")
    pipeline = StableDiffusionControlNetPipeline.from_pretrained(
        folder, controlnet=ours, text_encoder=None, tokenizer=None
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.slow
def test_pipeline_draws_what_our_sampler_draws(model_folder: Path, mask: np.ndarray) -> None:
    ours = MaskDiffusion(load_checkpoint(model_folder))
    context, size = ours.checkpoint.context, ours.size
    latent = (ours.checkpoint.unet.config.in_channels, 4, 4)
    hint = mask_hint(ours.fit_mask(mask)[None])
    for guidance in (1.0, 3.0):
        drawn = _pipeline(model_folder)(
            prompt_embeds=context([POLYP]).detach(),
            negative_prompt_embeds=context([""]).detach(),
            image=hint,
            num_inference_steps=4,
            guidance_scale=guidance,
            latents=initial_noise([11], latent),
            output_type="np",
        ).images
        assert drawn.shape == (1, size, size, 3)
        expected = ours.sample(mask, POLYP, [11], steps=4, guidance=guidance, scheduler="ddim")
        assert np.abs(drawn * 255 - expected).max() <= 1
        assert expected.std() > 0


@pytest.mark.slow
def test_pipeline_has_size_and_factor_of_the_model(model_folder: Path) -> None:
    pipeline, model = _pipeline(model_folder), load_checkpoint(model_folder)
    assert pipeline.unet.config.sample_size * pipeline.vae_scale_factor == model.image_size
    assert pipeline.text_encoder is None
    assert pipeline.safety_checker is None
    for name, weight in pipeline.unet.state_dict().items():
        assert torch.equal(weight, model.unet.state_dict()[name])


def test_index_names_a_module_that_every_user_of_ours_has_imported(model_folder: Path) -> None:
    """diffusers takes a class of ours only from an imported module; a package is imported with each of its modules."""
    index = json.loads((model_folder / "model_index.json").read_text())
    ours = {library for library, _ in (index["controlnet"], index["vae"]) if library != "diffusers"}
    assert ours == {"siamese.models"}
    assert SiameseControlNet.__module__.startswith("siamese.models.")
