"""Sampling: seeds, guidance, schedulers, previews, cancelling, references, inputs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch

from siamese.diffusion import add_noise, predict_x0, predicted_noise, scaled_linear_alphas
from siamese.masks.core import binarise, outline, resize_mask
from siamese.models.dense_hint import image_hint, mask_hint
from siamese.models.prompt_embeddings import UnknownPromptError
from siamese.models.unet import predict
from siamese.records.prompts import LESION, POLYP
from siamese.records.sampling_settings import UNGUIDED, SamplingSettings
from siamese.sampling import (
    Conditioning,
    MaskDiffusion,
    Progress,
    SamplingCancelled,
    build_scheduler,
    denoise,
    initial_noise,
)
from tests.models import build
from tests.phantoms import phantom


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["ddim", "dpm++"])
def test_seed_gives_the_same_image_alone_and_in_a_batch(ours: MaskDiffusion, scheduler: str) -> None:
    masks = [phantom(i)[1] for i in range(3)]
    prompts, seeds = [POLYP, LESION, POLYP], [5, 2**40, 7]
    together = ours.sample(masks, prompts, seeds, scheduler=scheduler)
    assert together.dtype == np.uint8
    assert together.shape == (3, ours.size, ours.size, 3)
    for i in range(3):
        alone = ours.sample(masks[i], prompts[i], [seeds[i]], scheduler=scheduler)
        assert np.abs(alone[0].astype(int) - together[i]).max() <= 1
    assert np.array_equal(together, ours.sample(masks, prompts, seeds, scheduler=scheduler))
    assert (together[0] != ours.sample(masks[0], POLYP, [6], scheduler=scheduler)[0]).mean() > 0.5


@pytest.mark.slow
def test_mask_prompt_guidance_and_scheduler_have_an_effect(ours: MaskDiffusion, mask: np.ndarray) -> None:
    base = ours.sample(mask, POLYP, [1])
    for other in (
        ours.sample(phantom(8)[1], POLYP, [1]),
        ours.sample(mask, LESION, [1]),
        ours.sample(mask, POLYP, [1], guidance_scale=9),
        ours.sample(mask, POLYP, [1], scheduler="dpm++"),
        ours.sample(mask, POLYP, [1], num_inference_steps=9),
    ):
        assert (other != base).any()


@pytest.mark.slow
def test_one_mask_for_all_seeds(ours: MaskDiffusion, mask: np.ndarray) -> None:
    one = ours.sample(mask, POLYP, [1, 2])
    assert np.array_equal(one, ours.sample([mask], POLYP, [1, 2]))
    # Hint features of a batch of two masks differ from those of one in the last bits.
    assert (
        np.abs(one.astype(int) - ours.sample(np.stack([mask, mask]), [POLYP] * 2, np.array([1, 2]))).max()
        <= 1
    )


@pytest.mark.slow
def test_reference_is_encoded_once_and_adds_one_control(
    ours: MaskDiffusion, mask: np.ndarray, calls: Counter
) -> None:
    ours.sample(mask, POLYP, [1, 2], num_inference_steps=3, guidance_scale=2, reference=phantom(4)[0])
    assert calls == {"unet": 4 * 3, "controlnet": 2 * 4 * 3, "hint": 1 + 1}


@pytest.mark.slow
def test_reference_of_weight_nought_changes_nothing(ours: MaskDiffusion, mask: np.ndarray) -> None:
    image = phantom(4)[0]
    plain = ours.sample(mask, POLYP, [1, 2])
    assert np.array_equal(plain, ours.sample(mask, POLYP, [1, 2], reference=image, reference_weight=0))
    half, whole = (ours.sample(mask, POLYP, [1, 2], reference=image, reference_weight=w) for w in (0.5, 1))
    assert (half != plain).any()
    assert (whole != half).any()


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++"])
def test_schedulers_recover_a_known_image(scheduler: str) -> None:
    """With the true velocity of one z0 as the network's output DDIM arrives at z0 with a_0's noise, DPM-Solver++ at z0."""
    config = build("small", control=False).scheduler_config
    alphas_cumprod, (z0, first) = (
        scaled_linear_alphas(),
        torch.randn(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0)),
    )
    solver = build_scheduler(scheduler, config, 20)
    assert len(solver.timesteps) == 20
    z = add_noise(alphas_cumprod, z0, first, solver.timesteps[:1])
    for t in solver.timesteps:
        a = alphas_cumprod[int(t)]
        noise = (z - a.sqrt() * z0) / (1 - a).sqrt()
        z = solver.step(a.sqrt() * noise - (1 - a).sqrt() * z0, t, z, return_dict=False)[0]
    torch.testing.assert_close(
        z,
        add_noise(alphas_cumprod, z0, first, torch.tensor([0])) if scheduler == "ddim" else z0,
        rtol=0,
        atol=1e-3,
    )


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["ddim", "dpm++"])
def test_the_last_steps_alone_continue_the_first(ours: MaskDiffusion, scheduler: str) -> None:
    """The steps left out are not run; those of DDIM, which remembers nothing, end at the same latents."""
    checkpoint, shape = ours.checkpoint, (1, ours.checkpoint.unet.config.in_channels, 4, 4)
    context = checkpoint.context([POLYP])

    def run(z: torch.Tensor, first: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        solver, inputs = build_scheduler(scheduler, checkpoint.scheduler_config, 6), []
        step = solver.step
        solver.step = lambda output, t, z_t, **options: (inputs.append(z_t), step(output, t, z_t, **options))[
            1
        ]
        return denoise(checkpoint, solver, z, Conditioning(context, context), UNGUIDED, first=first), inputs

    with torch.inference_mode():
        whole, inputs = run(torch.randn(shape, generator=torch.Generator().manual_seed(0)), 0)
        tail, steps = run(inputs[4], 4)
    assert len(inputs) == 6
    assert len(steps) == 2
    assert torch.isfinite(tail).all()
    if scheduler == "ddim":
        torch.testing.assert_close(tail, whole)
    else:  # its first step is of first order here: near, not the same
        assert 0 < (tail - whole).abs().max() < (inputs[4] - whole).abs().max()


def test_schedule_of_a_pipeline_that_clips_does_not_clip_latents() -> None:
    config = build("small").scheduler_config
    del config["clip_sample"]  # diffusers' default is to clip to -1..1
    assert build_scheduler("ddim", config, 4).config.clip_sample is False


@pytest.mark.slow
def test_callback_sees_each_step_and_a_preview(ours: MaskDiffusion, mask: np.ndarray) -> None:
    seen: list[Progress] = []
    drawn = ours.sample(mask, POLYP, [1, 2], num_inference_steps=4, callback=seen.append)
    assert [(p.step, p.steps) for p in seen] == [(i, 4) for i in range(1, 5)]
    assert np.array_equal(drawn, ours.sample(mask, POLYP, [1, 2], num_inference_steps=4))
    last: list[np.ndarray] = []
    thread = Thread(
        target=lambda: last.append(seen[-1].preview())
    )  # an interface may decode it in another thread
    thread.start()
    thread.join()
    for preview in (seen[0].preview(), *last):
        assert preview.dtype == np.uint8
        assert preview.shape == (2, ours.size, ours.size, 3)
    distances = [np.abs(p.preview().astype(int) - drawn).mean() for p in (seen[0], seen[-1])]
    assert distances[1] < distances[0]


@pytest.mark.slow
def test_callback_cancels_within_a_step(ours: MaskDiffusion, mask: np.ndarray, calls: Counter) -> None:
    with pytest.raises(SamplingCancelled, match="after 2 of 10 steps"):
        ours.sample(mask, POLYP, [1], num_inference_steps=10, guidance_scale=1, callback=lambda p: p.step < 2)
    assert calls["unet"] == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"guidance_mode": "image"}, "unknown guidance_mode 'image'; choose from prompt, mask"),
        ({"guide": "image"}, "unknown guidance_mode"),
        ({"guidance_scale": 0.5}, "guidance_scale is 0.5"),
        ({"guidance_rescale": 1.5}, "guidance_rescale is 1.5"),
        ({"guidance_interval": (0.3, 1.5)}, "guidance_interval is 0.3 to 1.5"),
        ({"guidance_interval": (0.8, 0.2)}, "guidance_interval is 0.8 to 0.2"),
        ({"guide_above": 0.8, "guide_below": 0.2}, "guidance_interval is 0.8 to 0.2"),
        ({"guidance_scale": float("nan")}, "guidance_scale is nan"),
        ({"steps": 0}, "num_inference_steps is 0"),
        ({"num_inference_steps": 1001}, "between 1 and 1000"),
        ({"scheduler": "euler"}, "unknown scheduler 'euler'; choose from dpm"),
        ({"scheduler": ""}, "unknown scheduler ''"),
        ({"seeds": []}, "seeds is empty"),
        ({"seeds": 3}, "list of one integer"),
        ({"seeds": [1.5]}, "list of one integer"),
        ({"prompt": [POLYP] * 3}, "3 prompts for 2 seeds"),
        ({"masks": [np.full((8, 8), 255, np.uint8)] * 3}, "3 masks for 2 seeds"),
        ({"masks": np.ones((8, 8), bool)}, r"not bool \[8, 8\]"),
        ({"masks": np.zeros((2, 8, 8, 3), np.uint8)}, r"not uint8 \[8, 8, 3\]"),
        ({"masks": [[255, 0]]}, "not list"),
        ({"masks": np.zeros((8, 8), np.uint8)}, "mask is empty"),
        ({"masks": np.full((8, 8), 127, np.uint8)}, "values above 127"),
        ({"reference": np.zeros((8, 8), np.uint8)}, "reference must be uint8"),
        ({"reference": "image.png"}, "not str"),
        ({"reference": np.zeros((8, 8, 3), np.uint8), "reference_weight": -1}, "reference_weight is -1"),
    ],
)
def test_bad_inputs_are_named(ours: MaskDiffusion, calls: Counter, change: dict, message: str) -> None:
    arguments = {"masks": phantom(0)[1], "prompt": POLYP, "seeds": [1, 2]} | change
    with pytest.raises(ValueError, match=message):
        ours.sample(**arguments)
    assert calls["unet"] == 0


def test_unknown_settings_are_named(ours: MaskDiffusion, mask: np.ndarray) -> None:
    with pytest.raises(TypeError, match="unknown setting 'strength'; use num_inference_steps"):
        ours.sample(mask, POLYP, [1], strength=3)
    with pytest.raises(TypeError, match="guidance_scale is given under two names"):
        ours.sample(mask, POLYP, [1], guidance=3, guidance_scale=3)


@pytest.mark.slow
def test_former_names_of_settings_still_work(ours: MaskDiffusion, mask: np.ndarray) -> None:
    settings = SamplingSettings(3, 4.0, "dpm++", "mask", 0.5, (0.2, 0.9))
    former = {"guide": "mask", "rescale": 0.5, "guide_above": 0.2, "guide_below": 0.9}
    assert np.array_equal(
        ours.sample(mask, POLYP, [1], settings=settings),
        ours.sample(mask, POLYP, [1], steps=3, guidance=4, scheduler="dpm++", **former),
    )


@pytest.mark.slow
def test_a_mask_is_fitted_once(ours: MaskDiffusion, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted, fit = [], MaskDiffusion.fit_mask
    monkeypatch.setattr(MaskDiffusion, "fit_mask", lambda self, m: (fitted.append(m), fit(self, m))[1])
    masks = [phantom(0)[1], phantom(8)[1]]
    images = ours.sample(masks, POLYP, [1, 2], steps=1)
    assert len(fitted) == 2
    settings = ours.checkpoint.defaults.override(num_inference_steps=1)
    again = ours.sample_fitted([fit(ours, m) for m in masks], POLYP, [1, 2], settings)
    assert np.array_equal(again, images)
    assert len(fitted) == 2


@pytest.mark.slow
def test_ddim_is_equation_12(ours: MaskDiffusion, mask: np.ndarray) -> None:
    """The loop of Song et al. 2020 with sigma = 0, line by line, at the timesteps of the scheduler; v or eps as the model has it."""
    network, steps = ours.checkpoint, 5
    alphas_cumprod = network.alphas_cumprod
    solver = build_scheduler("ddim", network.scheduler_config, steps)
    with torch.inference_mode():
        features = network.controlnet.hint_features(mask_hint(ours.fit_mask(mask)[None]))
        cond, uncond = network.context([POLYP]), network.context([""])
        start = initial_noise([4], (network.unet.config.in_channels, 4, 4))
        z = start
        for timestep in solver.timesteps:
            t = timestep.expand(1)
            output = {}
            for name, context in (("uncond", uncond), ("cond", cond)):
                control = network.controlnet.control(z, t, context, features)
                output[name] = predict(network.unet, z, t, context, control)
            guided = output["uncond"] + 3 * (output["cond"] - output["uncond"])
            eps = predicted_noise(alphas_cumprod, guided, z, t, network.prediction)
            z_0 = predict_x0(alphas_cumprod, z, eps, t)
            previous = max(int(timestep) - 1000 // steps, 0)
            a = alphas_cumprod[previous] if timestep >= 1000 // steps else solver.final_alpha_cumprod
            z = a.sqrt() * z_0 + (1 - a).sqrt() * eps
        found = denoise(
            network,
            build_scheduler("ddim", network.scheduler_config, steps),
            start,
            Conditioning(cond, uncond, [(1.0, features)]),
            SamplingSettings(guidance_scale=3),
        )
    torch.testing.assert_close(found, z, rtol=1e-3, atol=1e-4)


FROZEN = Path(__file__).with_name("frozen_latents.npz")
"""Latents z_0 [2, C, 4, 4] of both small models for each of ``CASES``, as the loop of version 0.2.0 made them."""

CASES = {
    "ddim": {"scheduler": "ddim", "guidance_scale": 3},
    "ddim-unguided": {"scheduler": "ddim", "guidance_scale": 1},
    "ddim-rescale": {"scheduler": "ddim", "guidance_scale": 6, "guidance_rescale": 0.7},
    "ddim-interval-mask": {
        "scheduler": "ddim",
        "guidance_scale": 5,
        "guidance_mode": "mask",
        "guidance_interval": (0.3, 0.8),
    },
    "dpm": {"scheduler": "dpm++", "guidance_scale": 3},
    "dpm-unguided": {"scheduler": "dpm++", "guidance_scale": 1},
    "dpm-mask-rescale": {
        "scheduler": "dpm++",
        "guidance_scale": 5,
        "guidance_mode": "mask",
        "guidance_rescale": 0.7,
    },
    "dpm-interval": {"scheduler": "dpm++", "guidance_scale": 5, "guidance_interval": (0.3, 0.8)},
    "ddim-reference": {"scheduler": "ddim", "guidance_scale": 3},
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["small", "sd"])
def test_latents_are_those_of_version_0_2(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bits, which differ between processors."""
    model, latents = MaskDiffusion(build(kind)), []
    monkeypatch.setattr(
        "siamese.sampling.decode_latents",
        lambda vae, z: latents.append(z) or torch.zeros(len(z), 3, model.size, model.size),
    )
    masks, frozen = [phantom(0)[1], phantom(8)[1]], np.load(FROZEN)
    assert set(frozen) == {f"{kind}/{name}" for kind in ("small", "sd") for name in CASES}
    for name, settings in CASES.items():
        photo = {"reference": phantom(4)[0], "reference_weight": 0.5} if name == "ddim-reference" else {}
        model.sample(masks, POLYP, [1, 2], num_inference_steps=5, **settings, **photo)
        np.testing.assert_allclose(latents[-1], frozen[f"{kind}/{name}"], rtol=1e-4, atol=1e-5, err_msg=name)


def test_unknown_prompt_is_named(ours: MaskDiffusion, mask: np.ndarray) -> None:
    assert set(ours.prompts) == {POLYP, LESION, ""}
    with pytest.raises(UnknownPromptError, match="unknown prompt 'a cat'; this model knows"):
        ours.sample(mask, "a cat", [1])


def test_base_model_cannot_follow_masks() -> None:
    with pytest.raises(ValueError, match="run the Siamese stage first"):
        MaskDiffusion(build("small", control=False))


@pytest.mark.slow
def test_from_pretrained_takes_a_folder(model_folder: Path, mask: np.ndarray) -> None:
    model = MaskDiffusion.from_pretrained(model_folder)
    assert np.array_equal(
        model.sample(mask, POLYP, [1]),
        MaskDiffusion.from_pretrained(str(model_folder), "cpu").sample(mask, POLYP, [1]),
    )


def test_forward_process_and_its_inverse() -> None:
    alphas_cumprod, generator = scaled_linear_alphas(), torch.Generator().manual_seed(0)
    z0, noise = torch.randn(2, 5, 4, 4, 4, generator=generator)
    t = torch.tensor([0, 10, 300, 700, 999])
    z_t = add_noise(alphas_cumprod, z0, noise, t)
    torch.testing.assert_close(predict_x0(alphas_cumprod, z_t, noise, t), z0, rtol=1e-3, atol=1e-4)
    a = alphas_cumprod[t].reshape(-1, 1, 1, 1)
    velocity = a.sqrt() * noise - (1 - a).sqrt() * z0
    torch.testing.assert_close(
        predicted_noise(alphas_cumprod, velocity, z_t, t, "v_prediction"), noise, rtol=1e-4, atol=1e-5
    )
    assert predicted_noise(alphas_cumprod, noise, z_t, t, "epsilon") is noise


def test_masks_and_hints() -> None:
    grey = np.array([[0, 127], [128, 255]], np.uint8)
    assert binarise(grey).tolist() == [[0, 0], [255, 255]]
    with pytest.raises(ValueError, match="two dimensions"):
        binarise(grey[None])
    assert resize_mask(binarise(grey), (2, 4)).tolist() == [[0] * 4, [255] * 4]
    hint = mask_hint(binarise(grey)[None])
    assert hint.shape == (1, 3, 2, 2)
    assert hint[0].tolist() == [[[0, 0], [1, 1]]] * 3
    image = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    assert torch.equal(image_hint(image)[0, 1], torch.tensor([[1, 4], [7, 10]]) / 255)


def test_outline_runs_along_the_border_of_the_mask() -> None:
    image, mask = phantom(0)
    drawn = outline(image, mask)
    changed = (drawn != image).any(2)
    assert changed.any()
    assert not changed[0].any()
    assert not np.array_equal(drawn, image)
    inner = mask.copy()
    for shift, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
        inner = np.minimum(inner, np.roll(np.roll(mask, shift, axis), shift, axis))
    centre = tuple(int(c.mean()) for c in np.nonzero(mask))
    assert not changed[centre]
    assert changed.sum() < mask.astype(bool).sum()
    with pytest.raises(ValueError, match="differ in size"):
        outline(image, inner[:-1])
