"""The fast step against the literal transcription, the tied decoder, and what each loss may reach."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding

from siamese.diffusion import add_noise, loss_weight, predict_x0, predicted_noise, scaled_linear_alphas
from siamese.models.controlnet import SiameseControlNet
from siamese.models.dense_hint import DenseHintInput
from siamese.models.presets import SD15, NetworkConfig
from siamese.models.unet import Decoder, encode, freeze_encoder, predict, tied_copy
from siamese.objective import SiameseConfig, SiameseObjective
from train.tools.reference import reference_losses

SMALL = NetworkConfig(
    block_out_channels=(64, 64),
    attention=(True, False),
    layers_per_block=1,
    cross_attention_dim=16,
    attention_heads=2,
    latent_channels=4,
    latent_size=8,
)


def randomise(module: torch.nn.Module) -> None:
    """No zero convolutions: every path carries signal."""
    for p in module.parameters():
        torch.nn.init.normal_(p, std=0.15) if p.ndim > 1 else torch.nn.init.normal_(p, 0.5, 0.2)


def objective(config: SiameseConfig = SiameseConfig(), frozen: bool = True) -> SiameseObjective:
    torch.manual_seed(0)
    unet = SMALL.build_unet()
    net = SiameseControlNet.from_unet(unet, (4, 8, 8, 8, 8), 3)
    randomise(net.controlnet_cond_embedding)
    randomise(net.controlnet_down_blocks)
    randomise(net.controlnet_mid_block)
    if frozen:
        freeze_encoder(unet)
    return SiameseObjective(unet, net, scaled_linear_alphas(), "epsilon", config)


def example(batch: int = 4) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    mask = (torch.rand(batch, 1, 64, 64, generator=g) > 0.5).float().repeat(1, 3, 1, 1)
    return {
        "z0": torch.randn(batch, 4, 8, 8, generator=g),
        "context": torch.randn(batch, 8, 16, generator=g),
        "hint_mask": mask,
        "hint_image": torch.rand(batch, 3, 64, 64, generator=g),
        "t": torch.tensor([10, 200, 201, 900])[:batch],
        "noise": torch.randn(batch, 4, 8, 8, generator=g),
    }


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 30, 31, 60, 90])
def test_same_loss_and_gradients_as_the_transcription(step: int) -> None:
    model, x = objective(), example()
    losses = model.per_sample(**x, step=step, max_steps=90)
    sum(v.mean() for v in losses.values()).backward()
    fast = {n: p.grad for n, p in model.named_parameters()}
    other = objective()
    expected = reference_losses(
        other.unet,
        other.controlnet,
        other.alphas_cumprod,
        x["z0"],
        x["context"],
        x["hint_mask"],
        x["hint_image"],
        x["t"],
        x["noise"],
        step,
        90,
    )
    expected.pop("total").backward()
    assert set(losses) == set(expected)
    assert ("augmented" in losses) == (step > 30)
    for name in expected:
        torch.testing.assert_close(losses[name], expected[name], rtol=1e-5, atol=1e-7)
    for name, p in other.named_parameters():
        assert (p.grad is None) == (fast[name] is None), name
        if p.grad is not None:
            torch.testing.assert_close(fast[name], p.grad, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("length", [2, 3, 4])
def test_rows_known_on_the_host_and_filled_up_give_the_same_loss_and_gradients(length: int) -> None:
    """Two samples have t <= 200; what fills up repeats the first of them and counts for nothing."""
    rows = torch.tensor([0, 1, 0, 0][:length])
    weights = torch.tensor([1.0, 1, 0, 0][:length])
    found = []
    for early in (None, (rows, weights)):
        model = objective()
        losses = model.per_sample(**example(), step=80, max_steps=90, early=early)
        sum(v.mean() for v in losses.values()).backward()
        found.append((losses, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
    (plain, gradients), (filled, others) = found
    assert (filled["augmented"] > 0).tolist() == [True, True, False, False]
    for name, value in plain.items():
        torch.testing.assert_close(filled[name], value, rtol=1e-5, atol=1e-7)
    assert gradients.keys() == others.keys()
    for name, value in gradients.items():
        torch.testing.assert_close(others[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_no_rows_or_a_closed_gate_give_no_fourth_loss() -> None:
    none = torch.zeros(0, dtype=torch.long), torch.zeros(0)
    assert "augmented" not in objective().per_sample(**example(), step=80, max_steps=90, early=none)
    some = torch.tensor([0]), torch.ones(1)
    assert "augmented" not in objective().per_sample(**example(), step=30, max_steps=90, early=some)


@pytest.mark.slow
def test_the_image_loss_never_reaches_the_decoder() -> None:
    model = objective()
    model.per_sample(**example(), step=80, max_steps=90)["image"].mean().backward()
    decoder = list(Decoder(model.unet).parameters())
    assert decoder
    assert all(p.grad is None for p in decoder)
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0
        for n, p in model.controlnet.named_parameters()
        if "conv_out.weight" in n
    )


@pytest.mark.slow
def test_the_image_loss_never_reaches_a_trained_encoder() -> None:
    model = objective(frozen=False)
    model.per_sample(**example(), step=80, max_steps=90)["image"].mean().backward()
    assert all(p.grad is None for p in model.unet.parameters())
    model.per_sample(**example(), step=80, max_steps=90)["mask"].mean().backward()
    assert all(p.grad is not None for p in model.unet.parameters())


@pytest.mark.slow
def test_the_consistency_loss_reaches_both() -> None:
    model = objective()
    model.per_sample(**example(), step=80, max_steps=90)["consistency"].mean().backward()
    assert all(p.grad is not None for p in Decoder(model.unet).parameters())
    assert model.controlnet.controlnet_cond_embedding.conv_out.weight.grad.abs().sum() > 0


@pytest.mark.slow
def test_tied_decoder_shares_storage_and_stays_tied() -> None:
    model = objective()
    decoder, tied = model._decoders
    optimiser = torch.optim.AdamW(decoder.parameters(), lr=0.1)
    model(**example(), step=50, max_steps=90)["total"].backward()
    optimiser.step()
    for p, q in zip(decoder.parameters(), tied.parameters(), strict=True):
        assert p is not q
        assert p.data_ptr() == q.data_ptr()
        assert p.requires_grad
        assert not q.requires_grad
    assert not any(k.startswith("_decoders") for k in model.state_dict())
    assert sum(1 for _ in model.parameters()) == sum(1 for _ in model.unet.parameters()) + sum(
        1 for _ in model.controlnet.parameters()
    )


@pytest.mark.slow
def test_tied_decoder_survives_activation_checkpointing() -> None:
    plain, checkpointed = objective(), objective()
    checkpointed.unet.enable_gradient_checkpointing()
    checkpointed.controlnet.enable_gradient_checkpointing()
    checkpointed.build_tied_decoder()
    grads = []
    for model in (plain, checkpointed):
        model.train()
        model(**example(), step=60, max_steps=90)["total"].backward()
        grads.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name in grads[0]:
        torch.testing.assert_close(grads[0][name], grads[1][name], rtol=1e-4, atol=1e-6)


def test_encoder_runs_without_gradient_only_when_nothing_trainable_feeds_it() -> None:
    model, x = objective(), example()
    assert not model._encode(x["z0"], x["t"], x["context"]).middle.requires_grad
    assert model._encode(x["z0"].clone().requires_grad_(), x["t"], x["context"]).middle.requires_grad
    model.unet.conv_in.requires_grad_(True)
    assert model._encode(x["z0"], x["t"], x["context"]).middle.requires_grad


def test_halves_equal_the_whole_unet() -> None:
    """Our two halves against diffusers' forward at 64 channels, at which the time embedding matters, and odd sides."""
    torch.manual_seed(3)
    unet = SMALL.build_unet().eval()
    for side in (8, 7):
        z, t, context = torch.randn(2, 4, side, side), torch.tensor([3, 777]), torch.randn(2, 5, 16)
        with torch.no_grad():
            ours, theirs = predict(unet, z, t, context), unet(z, t, context).sample
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
            assert not torch.allclose(ours, predict(unet, z, t + 100, context), atol=1e-3), (
                "the time embedding has no effect"
            )


def test_time_embedding_at_64_channels() -> None:
    """Released order: cosines first, frequencies 10000^(-i/32), then two linear layers with SiLU between."""
    unet = SMALL.build_unet()
    t = torch.tensor([0, 1, 500, 999])
    frequencies = torch.exp(-torch.log(torch.tensor(10000.0)) * torch.arange(32) / 32)
    angles = t[:, None].float() * frequencies
    expected = torch.cat([angles.cos(), angles.sin()], 1)
    torch.testing.assert_close(unet.time_proj(t), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        get_timestep_embedding(t, 64, flip_sin_to_cos=True, downscale_freq_shift=0),
        expected,
        rtol=1e-4,
        atol=1e-4,
    )
    mlp = unet.time_embedding
    by_hand = mlp.linear_2(torch.nn.functional.silu(mlp.linear_1(expected)))
    z, context = torch.randn(4, 4, 8, 8), torch.randn(4, 5, 16)
    torch.testing.assert_close(encode(unet, z, t, context).time, by_hand, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_sizes_at_stable_diffusion() -> None:
    with torch.device("meta"):
        unet = SD15.build_unet()
        net = SiameseControlNet(cross_attention_dim=768)
    decoder = sum(p.numel() for p in Decoder(unet).parameters())
    assert sum(p.numel() for p in unet.parameters()) == 859_520_964
    assert decoder == 510_808_004
    assert sum(p.numel() for p in net.parameters()) == 363_456_512


@pytest.mark.slow
@pytest.mark.parametrize("num_downsamples", [1, 2, 3, 4])
def test_hint_block_halves_as_often_as_asked(num_downsamples: int) -> None:
    assert DenseHintInput(24, num_downsamples=num_downsamples)(torch.rand(1, 3, 64, 64)).shape == (
        1,
        24,
        64 // 2**num_downsamples,
        64 // 2**num_downsamples,
    )


def test_hint_block_refuses_impossible_mergings() -> None:
    with pytest.raises(ValueError, match="num_downsamples is 5"):
        DenseHintInput(8, num_downsamples=5)


def test_controlnet_takes_the_unets_configuration(tmp_path) -> None:
    config = NetworkConfig(
        block_out_channels=(64, 96),
        attention=(False, True),
        layers_per_block=1,
        cross_attention_dim=24,
        attention_heads=3,
        time_scale_shift=True,
        latent_channels=16,
    )
    unet = config.build_unet()
    net = SiameseControlNet.from_unet(unet, (4, 8, 8, 8, 8), 4)
    for name in (
        "in_channels",
        "block_out_channels",
        "layers_per_block",
        "cross_attention_dim",
        "resnet_time_scale_shift",
        "down_block_types",
    ):
        assert net.config[name] == unet.config[name], name
    for ours, theirs in zip(net.down_blocks.parameters(), unet.down_blocks.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    net.save_pretrained(tmp_path)
    again = SiameseControlNet.from_pretrained(tmp_path)
    assert again.config.hint_mergings == 4
    assert tuple(again.config.hint_widths) == (4, 8, 8, 8, 8)
    x = torch.rand(1, 3, 64, 64)
    assert torch.equal(again.hint_features(x), net.hint_features(x))


def test_velocity_and_noise_say_the_same() -> None:
    alphas_cumprod, g = scaled_linear_alphas(), torch.Generator().manual_seed(0)
    z0, eps = torch.randn(3, 4, 4, 4, generator=g), torch.randn(3, 4, 4, 4, generator=g)
    t = torch.tensor([0, 500, 999])
    a = alphas_cumprod[t].view(-1, 1, 1, 1)
    z_t, v = add_noise(alphas_cumprod, z0, eps, t), a.sqrt() * eps - (1 - a).sqrt() * z0
    torch.testing.assert_close(
        predicted_noise(alphas_cumprod, v, z_t, t, "v_prediction"), eps, rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(predict_x0(alphas_cumprod, z_t, eps, t), z0, rtol=1e-3, atol=1e-4)
    wrong = v + 0.3
    error = (predicted_noise(alphas_cumprod, wrong, z_t, t, "v_prediction") - eps).square().mean((1, 2, 3))
    torch.testing.assert_close(
        loss_weight(alphas_cumprod, t, "velocity") * error, torch.full((3,), 0.09), rtol=1e-3, atol=1e-5
    )


def test_min_snr_weight() -> None:
    alphas_cumprod = scaled_linear_alphas()
    t = torch.arange(1000)
    weight, snr = loss_weight(alphas_cumprod, t, "min_snr"), alphas_cumprod / (1 - alphas_cumprod)
    assert torch.all(weight[snr <= 5] == 1)
    assert torch.allclose((weight * snr)[snr > 5], torch.tensor(5.0))
    assert torch.all(loss_weight(alphas_cumprod, t, "none") == 1)


def test_step_outside_the_run_is_refused() -> None:
    with pytest.raises(ValueError, match="step 91"):
        objective()(**example(), step=91, max_steps=90)


def test_deepcopy_of_the_decoder_is_not_tied() -> None:
    """The control of the control: an ordinary copy does not follow, so the tie test can fail."""
    decoder = Decoder(SMALL.build_unet())
    copied, tied = copy.deepcopy(decoder), tied_copy(decoder)
    with torch.no_grad():
        decoder.conv_out.bias.add_(1)
    assert torch.equal(tied.conv_out.bias, decoder.conv_out.bias)
    assert not torch.equal(copied.conv_out.bias, decoder.conv_out.bias)
