"""The weights of the language model as the decoding step reads them.

They are read once a call: in the computing dtype, query, key and value as one matrix, gate and up
as one, adapters added to what they adapt. The model stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from r1omni.models.adapters import effective_weight
from r1omni.models.omni import OmniModel
from r1omni.types import R1OmniError


@dataclass(frozen=True)
class LayerWeights:
    """One decoder layer.

    Attributes:
        norm, mlp_norm: [D], in their own dtype.
        qkv: [(H + 2 Hkv) d, D]; the rows of the queries hold the scale of the scores, and within
            a head of queries and keys they are in the order of `pair_order`.
        qkv_bias: [(H + 2 Hkv) d], the same.
        out: [D, H d].
        gate_up: [2 I, D].
        down: [D, I].
    """

    norm: Tensor
    qkv: Tensor
    qkv_bias: Tensor
    out: Tensor
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor


@dataclass(frozen=True)
class DecoderWeights:
    """All of the language model that a step of one token a row needs.

    Attributes:
        dtype: what products are computed in, and keys and values kept in.
        embedding: [V, D], in the dtype of the residual stream.
        layers: the decoder layers.
        norm: [D].
        head: [V, D].
        num_heads, num_kv_heads, head_dim: H, Hkv, d.
        eps: of the norms.
    """

    dtype: torch.dtype
    embedding: Tensor
    layers: tuple[LayerWeights, ...]
    norm: Tensor
    head: Tensor
    num_heads: int
    num_kv_heads: int
    head_dim: int
    eps: float

    def tensors(self) -> list[Tensor]:
        """Every weight, in a fixed order."""
        rows = [tensor for layer in self.layers for tensor in vars(layer).values()]
        return [self.embedding, *rows, self.norm, self.head]

    def addresses(self) -> tuple[int, ...]:
        """Where the weights lie; what was recorded over others must be recorded again."""
        return tuple(tensor.data_ptr() for tensor in self.tensors())


class WeightReader:
    """Reads a model's weights; what it had to copy lies at the same place at every reading.

    A tensor that needs no change (one part, the right dtype, no adapter) is not copied.

    Args:
        copy_all: copy such tensors, too: those of a sharded model lie elsewhere each time that
            they are gathered.
    """

    def __init__(self, copy_all: bool = False) -> None:
        self._copy_all = copy_all
        self._copies: dict[str, Tensor] = {}

    @torch.no_grad()
    def read(self, model: OmniModel) -> DecoderWeights:
        """The weights as they are now.

        Raises:
            R1OmniError: layers of a kind that the decoding step does not have.
        """
        config = model.config.language
        if set(config.layer_types or ()) - {"full_attention"}:
            raise R1OmniError(f"sampling knows layers of full attention, not {config.layer_types}")
        if config.hidden_act != "silu":
            raise R1OmniError(f"sampling knows layers with silu, not {config.hidden_act!r}")
        language: Any = model.language_model
        dtype = computing_dtype(model)
        layers = []
        for index, layer in enumerate(language.layers):
            attention, mlp = layer.self_attn, layer.mlp
            read = (attention.q_proj, attention.k_proj, attention.v_proj)
            matrices = [effective_weight(linear) for linear in read]
            biases = [_base(linear).bias for linear in read]
            if any(bias is None for bias in biases):
                raise R1OmniError(
                    f"sampling knows queries, keys and values with biases, as Qwen2 has; layer "
                    f"{index} of this model has none"
                )
            for parts in (matrices, biases):
                parts[0] = in_pairs(parts[0], attention.head_dim) * attention.scaling
                parts[1] = in_pairs(parts[1], attention.head_dim)
            name = f"{index}."
            layers.append(
                LayerWeights(
                    norm=self._as_it_is(name + "norm", layer.input_layernorm.weight),
                    qkv=self._read(name + "qkv", matrices, dtype),
                    qkv_bias=self._read(name + "qkv_bias", biases, dtype),
                    out=self._read(name + "out", [effective_weight(attention.o_proj)], dtype),
                    mlp_norm=self._as_it_is(
                        name + "mlp_norm", layer.post_attention_layernorm.weight
                    ),
                    gate_up=self._read(
                        name + "gate_up",
                        [effective_weight(mlp.gate_proj), effective_weight(mlp.up_proj)],
                        dtype,
                    ),
                    down=self._read(name + "down", [effective_weight(mlp.down_proj)], dtype),
                )
            )
        first = language.layers[0]
        head = self._read("head", [model.lm_head.weight], dtype)
        rows = language.embed_tokens.weight
        shared = rows is model.lm_head.weight and rows.dtype == dtype
        embedding = head if shared else self._as_it_is("embedding", rows)
        return DecoderWeights(
            dtype=dtype,
            embedding=embedding,
            layers=tuple(layers),
            norm=self._as_it_is("norm", language.norm.weight),
            head=head,
            num_heads=first.self_attn.config.num_attention_heads,
            num_kv_heads=first.self_attn.config.num_key_value_heads,
            head_dim=first.self_attn.head_dim,
            eps=config.rms_norm_eps,
        )

    def _as_it_is(self, name: str, tensor: Tensor) -> Tensor:
        return self._read(name, [tensor], tensor.dtype)

    def _read(self, name: str, parts: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
        """The parts below each other, in `dtype`."""
        first = parts[0]
        unchanged = len(parts) == 1 and first.dtype == dtype and isinstance(first, nn.Parameter)
        if unchanged and not self._copy_all:
            self._copies.pop(name, None)
            return first.detach()
        shape = (sum(len(part) for part in parts), *first.shape[1:])
        copy = self._copies.get(name)
        if copy is None or (copy.shape, copy.dtype, copy.device) != (shape, dtype, first.device):
            copy = self._copies[name] = torch.empty(shape, dtype=dtype, device=first.device)
        places = copy.split([len(part) for part in parts])
        for place, part in zip(places, parts, strict=True):
            place.copy_(part)
        return copy


def pair_order(width: int, device: torch.device) -> Tensor:
    """Long [d], 0, d/2, 1, d/2 + 1, ...: what rotary positions turn together, side by side.

    Qwen2 turns number i of a head together with number i + d / 2. Scores do not change when
    queries and keys are reordered alike.
    """
    return torch.arange(width, device=device).view(2, -1).t().flatten()


def in_pairs(rows: Tensor, width: int) -> Tensor:
    """Rows [heads d, ...], of each head in the order of `pair_order`."""
    return rows.unflatten(0, (-1, width))[:, pair_order(width, rows.device)].flatten(0, 1)


def computing_dtype(model: OmniModel) -> torch.dtype:
    """Of the language model's products: autocast's inside autocast, else the weights'."""
    kind = model.device.type
    if torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return model.dtype


def _base(linear: nn.Module) -> Any:
    """The layer below an adapter, or the layer itself."""
    return getattr(linear, "base_layer", linear)
