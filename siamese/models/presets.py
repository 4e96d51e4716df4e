"""Named architectures: ``tiny`` (embedded, trained from scratch here) and ``sd15`` (Stable Diffusion 1.5, the paper's)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

from siamese.diffusion import Prediction, log_normal_betas
from siamese.models.dense_hint import WIDTHS


@dataclass(frozen=True)
class NetworkConfig:
    """U-Net and hint block. ControlNet follows from the U-Net."""

    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    attention: tuple[bool, ...] = (True, True, True, False)
    """Whether each scale has transformer blocks."""
    layers_per_block: int = 2
    cross_attention_dim: int = 768
    attention_heads: int = 8
    norm_num_groups: int = 32
    time_scale_shift: bool = False
    """Time embedding scales and shifts the normalised features (otherwise it is added)."""
    latent_channels: int = 4
    latent_size: int = 64
    prediction: Prediction = "epsilon"
    log_sigma: tuple[float, float] | None = None
    """Mean and standard deviation of ln sigma over uniform t (``log_normal_betas``); none: Stable Diffusion's schedule."""
    hint_widths: tuple[int, ...] = WIDTHS
    hint_mergings: int = 3
    hint_keeps_variance: bool = False
    """He's initialisation of the hint block (``DenseHintInput.kaiming_init_``) instead of the released code's."""

    def build_unet(self) -> UNet2DConditionModel:
        """A U-Net with fresh weights."""
        return UNet2DConditionModel(
            sample_size=self.latent_size,
            in_channels=self.latent_channels,
            out_channels=self.latent_channels,
            block_out_channels=self.block_out_channels,
            layers_per_block=self.layers_per_block,
            down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in self.attention),
            up_block_types=tuple(
                "CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(self.attention)
            ),
            cross_attention_dim=self.cross_attention_dim,
            attention_head_dim=self.attention_heads,
            norm_num_groups=self.norm_num_groups,
            resnet_time_scale_shift="scale_shift" if self.time_scale_shift else "default",
        )

    def scheduler_config(self) -> dict[str, object]:
        """The noise schedule as diffusers' schedulers take it (golden DDIM: offset 1, no clipping).

        A schedule of ``log_sigma`` has few timesteps at either end, so DPM-Solver++ spaces its steps by Karras' sigmas on it.
        """
        schedule = {
            "num_train_timesteps": 1000,
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "prediction_type": self.prediction,
            "clip_sample": False,
            "set_alpha_to_one": False,
            "steps_offset": 1,
            "timestep_spacing": "leading",
        }
        return (
            schedule
            if self.log_sigma is None
            else schedule | {"trained_betas": log_normal_betas(*self.log_sigma), "use_karras_sigmas": True}
        )

    def to_dict(self) -> dict[str, object]:
        """Plain values, for a run's record."""
        return asdict(self)


SD15 = NetworkConfig()

TINY = NetworkConfig(
    block_out_channels=(128, 192),
    attention=(False, True),
    cross_attention_dim=128,
    attention_heads=4,
    time_scale_shift=True,
    latent_channels=32,
    latent_size=16,
    prediction="v_prediction",
    hint_widths=(8, 16, 32, 64, 128),
    hint_mergings=4,
    hint_keeps_variance=True,
)

PRESETS = {"tiny": TINY, "sd15": SD15}
