"""Memory and communication of a GRPO step on paper, for docs/scaling.md.

    python scripts/scaling_table.py

Parameters are counted on models that have shapes but no memory, unit by unit as
`r1omni.models.parallelize` shards them; the rest is the arithmetic that docs/scaling.md explains.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

import torch  # noqa: E402
import yaml  # noqa: E402
from script_options import ScriptParser  # noqa: E402

from r1omni.models.checkpoint import unfilled  # noqa: E402
from r1omni.models.omni import TOWERS  # noqa: E402
from r1omni.models.sizes import config_from_sizes  # noqa: E402

GB = 1e9
BF16, FP32 = 2, 4
# One prompt a pass: its tokens, its completions, and their length.
PROMPT, GROUP, COMPLETION = 950, 8, 256
# Bytes a second between nodes, for each GPU: 400 Gbit/s.
LINK = 50e9
# Language models as their publishers' configurations have them.
LANGUAGES = {
    "0.5B": {},
    "7B": {
        "hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28,
        "num_key_value_heads": 4, "intermediate_size": 18944, "tie_word_embeddings": False,
    },
    "72B": {
        "hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64,
        "num_key_value_heads": 8, "intermediate_size": 29568, "tie_word_embeddings": False,
    },
}  # fmt: skip
RANKS = {"0.5B": (2, 8), "7B": (8, 32), "72B": (64, 256)}


@dataclass(frozen=True)
class Counts:
    """Parameters of a model, and the sizes that activations depend on.

    Attributes:
        layer: of one decoder layer.
        num_layers: of the language model.
        rest: embeddings, head, projectors and gate.
        towers: the three frozen towers.
        text_tower: that of the gate, which the reference has for itself.
        width: D.
        inner: width of a decoder layer's MLP.
        key_width: of keys, or of values, of one token in one layer.
        vocabulary: V.
    """

    layer: int
    num_layers: int
    rest: int
    towers: int
    text_tower: int
    width: int
    inner: int
    key_width: int
    vocabulary: int

    @property
    def sharded(self) -> int:
        return self.layer * self.num_layers + self.rest


def count(name: str) -> Counts:
    """The parameters of a size of `LANGUAGES`, with the towers of the 0.5B release."""
    sizes = yaml.safe_load((ROOT / "configs" / "r1omni_0.5b" / "model.yaml").read_text())
    sizes["language"] |= LANGUAGES[name]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "sizes.yaml"
        file.write_text(yaml.safe_dump(sizes))
        config = config_from_sizes(file)
    with torch.device("meta"):
        model = unfilled(config)

    def parameters(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters())

    language = config.language
    towers = sum(parameters(model.get_submodule(tower)) for tower in TOWERS)
    layers = parameters(model.language_model.layers)
    head = language.hidden_size // language.num_attention_heads
    return Counts(
        layer=layers // language.num_hidden_layers,
        num_layers=language.num_hidden_layers,
        rest=parameters(model) - layers - towers,
        towers=towers,
        text_tower=parameters(model.text_tower),
        width=language.hidden_size,
        inner=language.intermediate_size,
        key_width=language.num_key_value_heads * head,
        vocabulary=language.vocab_size,
    )


def memory(c: Counts, ranks: int) -> dict[str, float]:
    """Bytes on one rank, by what takes them; see docs/scaling.md."""
    tokens, answers = PROMPT + GROUP * COMPLETION, GROUP * COMPLETION
    return {
        "weights, gradients, Adam": c.sharded * 4 * FP32 / ranks,
        "reference": c.sharded * BF16 / ranks,
        "towers": (c.towers + c.text_tower) * FP32,
        "gathered while updating": (2 * c.layer + c.rest) * BF16,
        "activations": tokens * c.width * c.num_layers * BF16
        + tokens * (8 * c.width + 3 * c.inner) * BF16
        + 2 * answers * c.vocabulary * BF16,
        "gathered while sampling": c.sharded * BF16,
        "keys and values": 2 * c.key_width * c.num_layers * BF16 * GROUP * (PROMPT + COMPLETION),
    }


def peak(parts: dict[str, float]) -> float:
    """The larger of the two phases, each on top of what is always there."""
    always = sum(parts[name] for name in ("weights, gradients, Adam", "reference", "towers"))
    updating = parts["gathered while updating"] + parts["activations"]
    sampling = parts["gathered while sampling"] + parts["keys and values"]
    return always + max(updating, sampling)


def host(c: Counts, ranks: int) -> dict[str, float]:
    """Bytes of host memory on a node of up to 8 ranks while weights are read."""
    on_node = min(ranks, 8)
    return {
        "mapped of the model folder": (c.sharded * on_node / ranks + c.towers) * FP32,
        "a tensor in each process": on_node * c.vocabulary * c.width * FP32 / ranks,
    }


def communication(c: Counts, ranks: int) -> dict[str, float]:
    """Bytes that one rank sends in a step of one pass, by ring algorithms."""
    share = (ranks - 1) / ranks
    layers = c.layer * c.num_layers
    return {
        "sampling": share * c.sharded * BF16,
        "reference": share * c.sharded * BF16,
        # The rest stays gathered between the forward and the backward pass.
        "update, weights": share * (2 * layers + c.rest) * BF16,
        "update, gradients": share * c.sharded * FP32,
    }


def by_layers(c: Counts, ranks: int) -> dict[str, float]:
    """What sampling would take that gathers one decoder layer at a time, for every token."""
    sent = (ranks - 1) / ranks * c.layer * c.num_layers * BF16
    return {
        "gathered at once, GB": (2 * c.layer + c.rest) * BF16 / GB,
        "sent for a token, GB": sent / GB,
        "seconds at 50 GB/s": sent / LINK,
        f"seconds for {COMPLETION} tokens": COMPLETION * sent / LINK,
    }


def table() -> str:
    """The tables in Markdown."""
    names = [(name, ranks) for name in LANGUAGES for ranks in RANKS[name]]
    counts = {name: count(name) for name in LANGUAGES}
    memories = [memory(counts[name], ranks) for name, ranks in names]
    hosts = [host(counts[name], ranks) for name, ranks in names]
    sent = [communication(counts[name], ranks) for name, ranks in names]
    layers = [by_layers(counts[name], ranks) for name, ranks in names]
    head = "".join(f" {name} on {ranks} |" for name, ranks in names)
    rule = "---|" * len(names)

    def row(title: str, values: list[float]) -> str:
        return f"| {title} |" + "".join(f" {value:.1f} |" for value in values)

    lines = [f"| memory of a rank, GB |{head}", f"|---|{rule}"]
    lines += [row(part, [m[part] / GB for m in memories]) for part in memories[0]]
    lines += [row("**peak**", [peak(m) / GB for m in memories])]
    lines += ["", f"| host memory of a node, GB |{head}", f"|---|{rule}"]
    lines += [row(part, [h[part] / GB for h in hosts]) for part in hosts[0]]
    lines += ["", f"| sent by a rank in a step, GB |{head}", f"|---|{rule}"]
    lines += [row(part, [s[part] / GB for s in sent]) for part in sent[0]]
    lines += [row("**sum**", [sum(s.values()) / GB for s in sent])]
    lines += [row("seconds at 50 GB/s", [sum(s.values()) / LINK for s in sent])]
    lines += ["", f"| sampling by layers, not built |{head}", f"|---|{rule}"]
    lines += [row(part, [found[part] for found in layers]) for part in layers[0]]
    return "\n".join(lines)


if __name__ == "__main__":
    ScriptParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    print(table())
