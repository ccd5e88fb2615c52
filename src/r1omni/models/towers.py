"""The three pretrained encoders, as transformers builds them, reduced to the features we use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn import functional as F
from transformers import (
    BertConfig,
    BertModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    WhisperConfig,
    WhisperForAudioClassification,
)

from r1omni.models.config import AUDIO_POOL, OmniConfig


def _layers_run(num_layers: int, select_layer: int) -> int:
    """Layers up to a hidden state: state 0 is the embedding, so -2 never runs the last layer."""
    return (num_layers + 1 + select_layer) % (num_layers + 1)


class VisionTower(nn.Module):
    """SigLIP up to one of its last hidden states: every patch of every frame, no class token."""

    def __init__(self, config: SiglipVisionConfig, select_layer: int) -> None:
        super().__init__()
        self.vision_tower = SiglipVisionModel(config)
        self.num_layers_run = _layers_run(config.num_hidden_layers, select_layer)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Patch features.

        Args:
            pixel_values: float [n, 3, H, W], normalised.

        Returns:
            float [n, P, Dv].
        """
        hidden = self.vision_tower.embeddings(pixel_values)
        for layer in self.vision_tower.encoder.layers[: self.num_layers_run]:
            hidden = layer(hidden, attention_mask=None)
        return hidden


class AudioTower(nn.Module):
    """Whisper's encoder up to one of its hidden states, averaged over every three frames.

    Emotion is told best by the middle layers, words by the last. The encoder's last norm, without
    which states of different layers differ in size, is taken of whichever is selected.
    """

    def __init__(self, config: WhisperConfig, select_layer: int = -1) -> None:
        super().__init__()
        # The released tower is an audio-classification checkpoint; its unused head is kept so
        # that every tensor of a checkpoint has its place.
        self.audio_tower = WhisperForAudioClassification(config)
        self.num_layers_run = _layers_run(config.encoder_layers, select_layer)

    def forward(self, mel: Tensor) -> Tensor:
        """Pooled audio features.

        Args:
            mel: float [n, M, F].

        Returns:
            float [n, La, Da]; frames left over at the end are dropped.
        """
        encoder = self.audio_tower.encoder
        hidden = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mel)))).transpose(1, 2)
        hidden = hidden + encoder.embed_positions.weight  # [n, F/2, Da]
        hidden = F.dropout(hidden, encoder.dropout, self.training)
        for layer in encoder.layers[: self.num_layers_run]:
            hidden = layer(hidden, None)
        hidden = encoder.layer_norm(hidden)
        return F.avg_pool1d(hidden.transpose(1, 2), AUDIO_POOL).transpose(1, 2)


class TextTower(nn.Module):
    """BERT's [CLS] state of the instruction, which the gate reads."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.bert_model = BertModel(config)

    def forward(self, instruction_ids: Tensor, mask: Tensor) -> Tensor:
        """[CLS] states.

        Args:
            instruction_ids: long [n, L], padded.
            mask: bool [n, L].

        Returns:
            float [n, 768 or the configured width].
        """
        states = self.bert_model(input_ids=instruction_ids, attention_mask=mask.long())
        return states.last_hidden_state[:, 0]


# Raise it whenever the code of the towers, or what `OmniModel.encode_media` does around them, gives
# other features of the same clips: features that were kept on disk are then made anew.
FEATURES_VERSION = 1
# What a tower's configuration says of its files and of the library that wrote them.
_NOT_SIZES = ("_name_or_path", "name_or_path", "transformers_version", "architectures", "dtype")


def features_fingerprint(
    config: OmniConfig,
    weights: Sequence[Mapping[str, Tensor]],
    device: torch.device,
    dtype: torch.dtype,
) -> str:
    """A digest of all that the features of a decoded clip depend on.

    Args:
        config: of the model; `config.media` says how clips are decoded and normalised.
        weights: of the vision and the audio tower, in the dtypes in which they are.
        device: where the towers run; the precision in force there counts, the device does not.
        dtype: of the features.
    """
    vision, audio = (
        {k: v for k, v in tower.to_dict().items() if k not in _NOT_SIZES}
        for tower in (config.vision, config.audio)
    )
    autocast = torch.is_autocast_enabled(device.type)
    parts = [
        FEATURES_VERSION,
        config.media.fingerprint(),
        config.vision_select_layer,
        config.audio_select_layer,
        vision,
        audio,
        [fingerprint(tower) for tower in weights],
        [str(tensor.dtype) for tower in weights for tensor in tower.values()],
        str(dtype),
        str(torch.get_autocast_dtype(device.type)) if autocast else "",
        torch.get_float32_matmul_precision(),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


@torch.no_grad()
def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """A short digest of named weights, equal for equal weights on any device.

    Sharded ones are gathered one at a time; all ranks call this together.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        if isinstance(tensor, DTensor):
            tensor = tensor.full_tensor()
        digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
