"""Held against the released code: every golden figure, at the tolerances that come with them."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from siamese.diffusion import add_noise, predict_x0
from siamese.models.unet import Decoder, encode
from siamese.released import (
    CONTROL,
    UNET,
    ReleasedSiamese,
    _control_key,
    _decoder_key,
    _encoder_key,
    load_released,
)
from siamese.sampling import Conditioning, SamplingSettings, build_scheduler, denoise
from tests.golden.build import HERE, LARGE, figures, inputs, state

EPS_ATOL, CONTROL_ATOL, LOSS_RTOL, GRADIENT_RTOL, DDIM_ATOL = 2e-5, 2e-4, 1e-5, 5e-5, 1e-3
STEPS = (0, 500, 1000, 1001, 1500, 3000)


@pytest.fixture(scope="module")
def released() -> ReleasedSiamese:
    return load_released(state(), **figures()["config"])


@pytest.fixture(scope="module")
def large() -> dict[str, torch.Tensor]:
    return load_file(LARGE)


def batch() -> dict[str, torch.Tensor]:
    return {k: inputs()[k] for k in ("context", "hint_mask", "hint_image", "t", "noise")}


def per_sample(model: ReleasedSiamese, step: int, **changes: torch.Tensor) -> dict[str, torch.Tensor]:
    return model.objective.per_sample(inputs()["x_start"], **(batch() | changes), step=step, max_steps=3000)


def our_key(key: str) -> tuple[torch.nn.Module | str, str]:
    """Which network (``unet`` or ``controlnet``) and which of its parameters a released key is."""
    if key.startswith(UNET):
        rest = key[len(UNET) :]
        return "unet", _encoder_key(rest, 4, 2) or _decoder_key(rest, 4, 2)
    rest = key[len(CONTROL) :]
    return "controlnet", _encoder_key(rest, 4, 2) or _control_key(rest)


def gradients(model: ReleasedSiamese, step: int = 1500) -> dict[str, torch.Tensor | None]:
    """Gradient of the total loss by released key, None if it has no gradient."""
    model.zero_grad(set_to_none=True)
    model.loss(inputs()["x_start"], **batch(), step=step, max_steps=3000).backward()
    parameters = {side: dict(getattr(model, side).named_parameters()) for side in ("unet", "controlnet")}
    found = {}
    for key in figures()["grad_norm_per_param"]:
        side, name = our_key(key)
        found[key] = parameters[side][name].grad
    return found


@pytest.mark.slow
def test_parameter_counts(released: ReleasedSiamese) -> None:
    counts = figures()["param_counts"]
    count = lambda m: sum(p.numel() for p in m.parameters())  # noqa: E731
    hint = released.controlnet.controlnet_cond_embedding
    assert count(released.unet) == counts["unet"]
    assert count(released.controlnet) == counts["controlnet_total"]
    assert count(hint) - count(hint.conv_out) == counts["dhi"] == 2_526_272
    assert count(released.vae) == figures()["vae"]["params"]


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_losses_of_each_sample(released: ReleasedSiamese, step: int) -> None:
    expected = figures()["steps"][str(step)]
    losses = per_sample(released, step)
    assert len(losses) == expected["n_terms"]
    for name, values in expected["per_sample"].items():
        theirs = torch.tensor(values)
        if name == "augmented":  # the released figure is from before its gate over t
            theirs = theirs * (inputs()["t"] <= 200)
        torch.testing.assert_close(losses[name], theirs, rtol=LOSS_RTOL, atol=1e-9)
    total = sum(v.detach().mean() for v in losses.values())
    assert float(total) == pytest.approx(expected["total"], rel=LOSS_RTOL)


@pytest.mark.slow
def test_gate_over_timesteps(released: ReleasedSiamese) -> None:
    """t = 200 is augmented; a batch from t = 201 on has no fourth term, nor has any batch up to a third of the steps."""
    t = torch.tensor([200, 500, 700])
    expected = figures()["t_eq_200"]
    for ours, values in zip(per_sample(released, 1500, t=t).items(), expected["per_sample"], strict=True):
        theirs = torch.tensor(values) * ((t <= 200) if ours[0] == "augmented" else 1)
        torch.testing.assert_close(ours[1], theirs, rtol=LOSS_RTOL, atol=1e-9)
    late = per_sample(released, 1500, t=torch.tensor([201, 500, 999]))
    assert set(late) == {"mask", "image", "consistency"}
    closed = per_sample(released, 1000, t=torch.tensor([200, 200, 200]))
    assert set(closed) == {"mask", "image", "consistency"}


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_gradient_norms_of_groups(released: ReleasedSiamese, step: int) -> None:
    found = gradients(released, step)
    for group, expected in figures()["steps"][str(step)]["grad_norm_group"].items():
        grads = [g for key, g in found.items() if key.startswith(group + ".")]
        assert grads
        if expected is None:
            assert all(g is None for g in grads), f"{group} is frozen"
        else:
            norm = torch.stack([g.double().square().sum() for g in grads]).sum().sqrt()
            assert float(norm) == pytest.approx(expected, rel=GRADIENT_RTOL), group


@pytest.mark.slow
def test_gradient_norm_of_every_parameter(released: ReleasedSiamese) -> None:
    """Against the released float64 figures, but for parameters whose gradient is analytically zero."""
    found, null = gradients(released), set(figures()["null_gradient_params"])
    exact = figures()["grad_norm_per_param_f64"]
    for key, expected in figures()["grad_norm_per_param"].items():
        assert (found[key] is None) == (expected is None), key
        if expected is not None and key not in null:
            # relative to the parameter's own norm, float32 noise of a few hundredths of a per mille is observed
            assert float(found[key].double().norm()) == pytest.approx(exact[key], rel=1e-3, abs=1e-7), key


@pytest.mark.slow
def test_full_gradients(released: ReleasedSiamese, large: dict[str, torch.Tensor]) -> None:
    found = gradients(released)
    names = [k for k in large if k.startswith("grad.")]
    assert len(names) == 17
    for name in names:
        ours, theirs = found[name[len("grad.") :]], large[name]
        ours = ours.reshape(theirs.shape)
        assert float((ours - theirs).norm() / theirs.norm()) < GRADIENT_RTOL, name


@pytest.mark.slow
def test_hint_features(released: ReleasedSiamese, large: dict[str, torch.Tensor]) -> None:
    hint = released.controlnet.controlnet_cond_embedding
    captured = []
    handle = hint.conv_out.register_forward_pre_hook(lambda module, args: captured.append(args[0]))
    for name in ("mask", "image"):
        out = released.controlnet.hint_features(inputs()[f"hint_{name}"])
        torch.testing.assert_close(captured.pop(), large[f"dhi_{name}"], rtol=0, atol=CONTROL_ATOL)
        torch.testing.assert_close(out, large[f"guided_hint_{name}"], rtol=0, atol=CONTROL_ATOL)
    handle.remove()


@pytest.mark.slow
@torch.no_grad()
def test_residuals_and_noise_predictions(released: ReleasedSiamese, large: dict[str, torch.Tensor]) -> None:
    x, unet, net = inputs(), released.unet, released.controlnet
    alphas_cumprod, t, context = released.objective.alphas_cumprod, x["t"], x["context"]
    z_t = add_noise(alphas_cumprod, x["x_start"], x["noise"], t)
    torch.testing.assert_close(z_t, large["x_noisy"], rtol=0, atol=1e-6)
    controls = {
        name: net.control(z_t, t, context, net.hint_features(x[f"hint_{name}"])) for name in ("mask", "image")
    }
    for name, control in controls.items():
        for i, residual in enumerate((*control.skips, control.middle)):
            torch.testing.assert_close(residual, large[f"control_{name}_{i:02d}"], rtol=0, atol=CONTROL_ATOL)
    decoder, encoding = Decoder(unet), encode(unet, z_t, t, context)
    mixed = controls["image"].mix(controls["mask"], 0.5, 1.0)
    predictions = {
        "mask": decoder(encoding, context, controls["mask"]),
        "image": decoder(encoding, context, mixed),
        "nocontrol": decoder(encoding, context),
    }
    for name, prediction in predictions.items():
        torch.testing.assert_close(prediction, large[f"eps_{name}"], rtol=0, atol=EPS_ATOL)
    z0 = predict_x0(alphas_cumprod, z_t, predictions["image"], t)
    torch.testing.assert_close(z0, large["z0_pred"], rtol=0, atol=1e-3)
    again = add_noise(alphas_cumprod, z0, x["noise"], t)
    torch.testing.assert_close(again, large["x_noisy_aug"], rtol=0, atol=EPS_ATOL * 5)
    c_a = net.control(again, t, context, net.hint_features(x["hint_mask"]))
    prediction = decoder(encode(unet, again, t, context), context, c_a)
    torch.testing.assert_close(prediction, large["eps_mask_aug"], rtol=0, atol=EPS_ATOL)


@pytest.mark.slow
def test_four_optimiser_steps() -> None:
    """AdamW as released, on fresh networks: the loss follows the released trajectory and the frozen part stays."""
    model, expected = load_released(state(), **figures()["config"]), figures()["adamw"]
    trained = [p for p in model.parameters() if p.requires_grad]
    assert (len(trained), sum(p.numel() for p in trained)) == (expected["n_tensors"], expected["n_params"])
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimiser = torch.optim.AdamW(
        trained, lr=expected["lr"], betas=expected["betas"], weight_decay=expected["weight_decay"]
    )
    trajectory = []
    for step in range(1500, 1504):
        optimiser.zero_grad()
        loss = model.loss(inputs()["x_start"], **batch(), step=step, max_steps=3000)
        loss.backward()
        optimiser.step()
        trajectory.append(float(loss.detach()))
    np.testing.assert_allclose(trajectory, figures()["adamw_loss_trajectory_1500_1503_f64"], rtol=LOSS_RTOL)
    after = model.state_dict()
    for group, changes in figures()["changed_param_groups"].items():
        keys = [k for k in json.loads((HERE / "keys.json").read_text()) if k.startswith(group + ".")]
        names = [f"objective.{side}.{name}" for side, name in map(our_key, keys)]
        assert any(not torch.equal(before[n], after[n]) for n in names) == changes, group


@pytest.mark.slow
@pytest.mark.parametrize("guidance", [1, 9])
def test_ddim(released: ReleasedSiamese, large: dict[str, torch.Tensor], guidance: int) -> None:
    expected, x = figures()["ddim"], inputs()
    config = {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "prediction_type": "epsilon",
    }
    scheduler = build_scheduler("ddim", config, 10)
    assert scheduler.timesteps.tolist() == expected["timesteps"][::-1]

    class Networks:
        unet, controlnet, alphas_cumprod, prediction = (
            released.unet,
            released.controlnet,
            released.objective.alphas_cumprod,
            "epsilon",
        )

    with torch.no_grad():
        features = released.controlnet.hint_features(x["hint_mask"])
        z = denoise(
            Networks,
            scheduler,
            x["x_T"],
            Conditioning(x["context"], x["uncond_context"], [(1.0, features)]),
            SamplingSettings(guidance_scale=guidance),
        )
    torch.testing.assert_close(z, large[f"ddim10_g{guidance}_final"], rtol=0, atol=DDIM_ATOL)
    if guidance == 9:
        assert float(z.std()) == pytest.approx(expected["final_std"], rel=1e-4)


@pytest.mark.slow
def test_ddim_schedule_alphas(released: ReleasedSiamese) -> None:
    expected, alphas_cumprod = figures()["ddim"], released.objective.alphas_cumprod
    np.testing.assert_allclose(alphas_cumprod[expected["timesteps"]].numpy(), expected["alphas"], rtol=1e-6)


@pytest.mark.slow
@torch.no_grad()
def test_autoencoder(released: ReleasedSiamese, large: dict[str, torch.Tensor]) -> None:
    moments = released.vae.encode(2 * inputs()["hint_image"] - 1).latent_dist
    theirs = large["vae_moments"]
    torch.testing.assert_close(moments.parameters, theirs, rtol=0, atol=CONTROL_ATOL)
    decoded = released.vae.decode(moments.mode()).sample
    torch.testing.assert_close(decoded, large["vae_decode_of_mode"], rtol=0, atol=CONTROL_ATOL)
