"""The mini-world with smaller models, for tests of how a model trains and not of what it learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from r1omni.cli import main

SIZES = Path(__file__).parents[2] / "configs" / "mini" / "model.yaml"


def _with_model(mini_world: Path, folder: Path, width: int, num_layers: int) -> Path:
    """`mini_world` beside a fresh model of this width, whose language model has these layers."""
    (folder / "world").symlink_to(mini_world / "world")
    sizes = yaml.safe_load(SIZES.read_text(encoding="utf-8"))
    small = {"hidden_size": width, "intermediate_size": 2 * width, "num_attention_heads": 2}
    sizes["language"] |= {**small, "num_hidden_layers": num_layers, "num_key_value_heads": 1}
    sizes["vision"] |= {**small, "num_hidden_layers": 2}
    sizes["text"] |= {**small, "num_hidden_layers": 1}
    sizes["audio"] |= {"d_model": width, "encoder_layers": 1, "encoder_ffn_dim": 2 * width,
                       "encoder_attention_heads": 2}  # fmt: skip
    sizes["omni"] |= {"mm_gate_hidden_size": 2 * width}
    file = folder / "sizes.yaml"
    file.write_text(yaml.safe_dump(sizes), encoding="utf-8")
    texts = mini_world / "world" / "HumanOmni" / "reasoning.json"
    words = ["create", "--sizes", file, "--texts", texts, "--out", folder / "init"]
    assert main([str(word) for word in words]) == 0
    _draw_anew(folder / "init" / "model.safetensors")
    return folder


def _draw_anew(file: Path) -> None:
    """Weights by their names, since each version of transformers draws in another order.

    What a test needs to be seen, such as a group of completions that are alike, hangs on the draw.
    Tokens are further apart than fresh ones are, so that no entropy is another's but for roundoff.
    """
    tensors = load_file(file)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in sorted(tensors.items()):
        if tensor.numel() > 1 and (spread := tensor.std()) > 0:
            # Transformers draws from 0.02, torch's layers of our own from much more.
            scale = 0.02 if spread < 0.04 else 0.14
            if "embed_tokens" in name or "lm_head" in name:
                scale = 0.05
            tensors[name] = scale * torch.randn(tensor.shape, generator=generator)
    save_file(tensors, file, metadata={"format": "pt"})


@pytest.fixture(scope="session")
def small_world(mini_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With two layers, so that what goes from one to the next is there; clips are decoded once."""
    (mini_world / "cache").mkdir(exist_ok=True)
    folder = tmp_path_factory.mktemp("small")
    (folder / "cache").symlink_to(mini_world / "cache")
    return _with_model(mini_world, folder, 32, 2)


@pytest.fixture(scope="session")
def smallest_world(mini_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the smallest model that has every part, and a cache of its own."""
    return _with_model(mini_world, tmp_path_factory.mktemp("smallest"), 16, 1)
