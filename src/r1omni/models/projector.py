"""From tower features to media tokens: the three-branch video projector, its gate, the audio MLP.

HumanOmni (arXiv 2501.15111) reads a clip three ways (what happens, the body, the face) and mixes
the branches by a gate that reads the instruction. Submodule names are those of the releases.
"""

from __future__ import annotations

from functools import partial

import torch
from timm.layers import LayerNorm2d
from timm.models.regnet import RegStage
from torch import Tensor, nn
from torch.nn import functional as F

from r1omni.models.config import NUM_BRANCHES

_STAGE_DEPTH = 2

_Stage = partial(
    RegStage, depth=_STAGE_DEPTH, stride=1, dilation=1, act_layer=nn.SiLU, norm_layer=LayerNorm2d
)


def _mlp(in_features: int, out_features: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(in_features, out_features), nn.GELU(), nn.Linear(out_features, out_features)
    )


def _sampler(width: int) -> nn.Sequential:
    convolution = nn.Conv3d(
        width, width, kernel_size=(2, 2, 2), stride=(1, 2, 2), padding=(1, 0, 0)
    )
    return nn.Sequential(convolution, nn.SiLU())


class VideoProjector(nn.Module):
    """Patch features of T frames to Lv = T * (grid/2)^2 video tokens (`all_in_one_small`)."""

    def __init__(self, vision_width: int, width: int) -> None:
        super().__init__()
        self.s1_video = _Stage(in_chs=vision_width, out_chs=width)
        self.sampler_video = _sampler(width)
        self.s2_video = _Stage(in_chs=width, out_chs=width)
        self.readout_video = _mlp(width, width)
        self.s1_body = _Stage(in_chs=vision_width, out_chs=width)
        self.sampler_body = _sampler(width)
        self.s2_body = _Stage(in_chs=width, out_chs=width)
        self.readout_body = _mlp(width, width)
        self.mlp_2xgelu_face = _mlp(vision_width, width)

    def branches(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The video, body and face branches before they are mixed.

        Args:
            features: float [B, T, P, Dv], P a square number.

        Returns:
            three float [B, Lv, D].
        """
        batch, frames, patches, _ = features.shape
        side = int(patches**0.5)
        grid = features.unflatten(2, (side, side)).permute(0, 1, 4, 2, 3)  # [B, T, Dv, g, g]
        video = self._convolve(grid, self.s1_video, self.sampler_video, self.s2_video)
        body = self._convolve(grid, self.s1_body, self.sampler_body, self.s2_body)

        face = self.mlp_2xgelu_face(features)  # [B, T, P, D]
        face = face.unflatten(2, (side, side)).flatten(0, 1).permute(0, 3, 1, 2)
        face = F.interpolate(face, size=(side // 2, side // 2), mode="bilinear")
        face = face.unflatten(0, (batch, frames)).permute(0, 1, 3, 4, 2).flatten(1, 3)
        return self.readout_video(video), self.readout_body(body), face

    @staticmethod
    def _convolve(grid: Tensor, stage1: nn.Module, sampler: nn.Module, stage2: nn.Module) -> Tensor:
        """[B, T, Dv, g, g] to [B, T * (g/2)^2, D]."""
        batch, frames = grid.shape[:2]
        maps = stage1(grid.flatten(0, 1)).unflatten(0, (batch, frames))
        # Padding in time makes T + 1 steps; the last one is dropped.
        maps = sampler(maps.transpose(1, 2))[:, :, :frames].transpose(1, 2)  # [B, T, D, h, h]
        maps = stage2(maps.flatten(0, 1)).unflatten(0, (batch, frames))
        return maps.permute(0, 1, 3, 4, 2).flatten(1, 3)

    def forward(self, features: Tensor, weights: Tensor) -> Tensor:
        """Video tokens.

        Args:
            features: float [B, T, P, Dv].
            weights: float [B, 3] of the gate, rows summing to 1.

        Returns:
            float [B, Lv, D].
        """
        stacked = torch.stack(self.branches(features), dim=1)  # [B, 3, Lv, D]
        return (weights[:, :, None, None] * stacked).sum(dim=1)


def audio_projector(audio_width: int, width: int) -> nn.Sequential:
    """`mlp2x_gelu`: pooled audio features [.., La, Da] to audio tokens [.., La, D]."""
    return _mlp(audio_width, width)


class Gate(nn.Sequential):
    """Instruction state [B, text width] to the weights [B, 3] of the three branches."""

    def __init__(self, text_width: int, hidden_width: int) -> None:
        super().__init__(
            nn.Linear(text_width, hidden_width),
            nn.GELU(),
            nn.Linear(hidden_width, NUM_BRANCHES),
            nn.Softmax(dim=-1),
        )
