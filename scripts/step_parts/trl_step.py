"""The step of TRL's GRPOTrainer, where TRL is installed (`pip install trl`).

TRL trains what looks like a causal language model (`peers.py`). "trl" is TRL as it comes: the model
reads the clip of every row, as vision-language models do under TRL. "trl_rows" is the best that one
can do without changing how TRL lays out rows: features of the towers are given, and the head is
applied where completions are predicted, as TRL itself does on a GPU. Both have gradient
checkpointing off, which TRL turns on by default and which would cost another pass.
"""

from __future__ import annotations

import copy
import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, TrainerCallback

from step_parts.peers import PeerModel, rows_of
from step_parts.watch import Watch
from step_parts.work import BETA, LEARNING_RATE, MAX_GRAD_NORM, Case, Materials, by_place


def is_installed() -> bool:
    """Whether TRL and what it imports can be found."""
    return all(importlib.util.find_spec(name) for name in ("trl", "accelerate", "datasets"))


def run(case: Case, folder: Path, arm: str, watch: Watch) -> dict[str, Any]:
    """The steps that a watch asks for; returns what the step was made of."""
    from datasets import Dataset
    from trl import GRPOConfig
    from trl.trainer import utils

    materials = Materials(case, folder, with_features=arm == "trl_rows")
    policy = PeerModel(materials)
    reference = copy.deepcopy(policy).requires_grad_(False).eval()
    watch.models = (policy.omni, reference.omni)
    settings = GRPOConfig(
        output_dir=str(folder.parent / "trl"), max_steps=watch.num_steps, logging_steps=1,
        per_device_train_batch_size=case.rows, num_generations=case.group_size,
        max_completion_length=case.completion, beta=0.0, loss_type="grpo", temperature=1.0,
        learning_rate=LEARNING_RATE, lr_scheduler_type="constant", max_grad_norm=MAX_GRAD_NORM,
        shuffle_dataset=False, gradient_checkpointing=False, report_to="none", save_strategy="no",
        bf16=case.device == "cuda", use_cpu=case.device == "cpu", disable_tqdm=True,
        remove_unused_columns=False, generation_kwargs={"eos_token_id": None},
        dataloader_pin_memory=False,
    )  # fmt: skip
    texts = [" ".join(map(str, row)) for row in rows_of(materials).tolist()]
    trainer = _trainer()(
        model=policy, reward_funcs=by_place, args=settings,
        train_dataset=Dataset.from_dict({"prompt": texts * watch.num_steps}),
        processing_class=_tokenizer(materials), callbacks=[_Steps(watch)],
    )  # fmt: skip
    trainer.watch = watch
    # TRL would load the reference by the name of the model, which has none.
    utils.add_fused_lm_head(reference, temperature=1.0)
    trainer.beta, trainer.ref_model = BETA, reference
    only_predicting = arm == "trl_rows"
    with patch.object(utils, "_use_triton", lambda d: only_predicting or d.type == "cuda"):
        trainer.train()
    # What a step computed is logged after it.
    logs = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
    for found, entry in zip(watch.found, logs, strict=True):
        found["figures"] = {name: entry[name] for name in ("loss", "grad_norm")}
    return {
        "prompt_tokens": materials.prompt_length,
        "trl": importlib.metadata.version("trl"),
    }


def _tokenizer(materials: Materials) -> PreTrainedTokenizerFast:
    """Numbers to the tokens that they are; the last one ends."""
    vocabulary = materials.model.config.language.vocab_size
    words = models.WordLevel({str(i): i for i in range(vocabulary)}, unk_token="0")
    made = Tokenizer(words)
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    end = str(vocabulary - 1)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=end, pad_token=end)


class _Steps(TrainerCallback):
    """Tells the watch when a step begins and ends."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.watch.begin()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.watch.end({})


def _trainer() -> type[Any]:
    """TRL's trainer, its phases timed."""
    from trl import GRPOTrainer

    class Timed(GRPOTrainer):  # type: ignore[misc]
        watch: Watch

        def _generate_single_turn(self, *args: Any, **kwargs: Any) -> Any:
            with self.watch.phases.timed("sampling"):
                return super()._generate_single_turn(*args, **kwargs)

        def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
            name = "update" if torch.is_grad_enabled() else "reference"
            with self.watch.phases.timed(name):
                return super()._get_per_token_logps_and_entropies(*args, **kwargs)

        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            with self.watch.phases.timed("update"):  # less what is timed inside it
                return super().training_step(*args, **kwargs)

    return Timed
