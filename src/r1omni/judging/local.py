"""A judge from a folder: a causal language model of transformers, greedy, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from r1omni.judging.cache import content_key
from r1omni.judging.config import JudgeConfig
from r1omni.types import UsageError


def folder_fingerprint(folder: Path) -> str:
    """A hash of the names, sizes and times of a folder's files, by which its grades are kept.

    Raises:
        UsageError: there is no model in the folder.
    """
    if not (folder / "config.json").is_file():
        raise UsageError(
            f"judge: model {folder} is no folder with a model (config.json); give one, or an "
            "endpoint"
        )
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    stats = [(str(path.relative_to(folder)), path.stat()) for path in files]
    return content_key({name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats})


class LocalModel:
    """Replies of a local model, each the most probable token at a time.

    Args:
        config: without an endpoint.

    Raises:
        UsageError: a folder that transformers cannot load, or a model without a chat template.
    """

    def __init__(self, config: JudgeConfig) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._config = config
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(
                config.model, local_files_only=True, padding_side="left"
            )
            model: Any = AutoModelForCausalLM.from_pretrained(
                config.model, local_files_only=True, use_safetensors=True,
                dtype=getattr(torch, config.dtype),
            )  # fmt: skip
            self._model = model.to(config.device)
        except (OSError, ValueError, RuntimeError) as error:
            line = " ".join(str(error).split())
            raise UsageError(
                f"judge: model {config.model} cannot be loaded ({line:.200})"
            ) from error
        if self._tokenizer.chat_template is None:
            raise UsageError(f"judge: model {config.model} has no chat template; use a chat model")
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._model.eval()

    @torch.no_grad()
    def replies(self, questions: Sequence[str], limit_s: float) -> list[str | None]:
        """Replies to the questions of one batch; None where one was cut by a limit.

        Padding may move a logit by its last bits, so a reply can depend on the batch it is in.

        Args:
            questions: whole prompts.
            limit_s: seconds for all of them; a reply that has not ended then is cut.
        """
        inputs: Any = self._tokenizer.apply_chat_template(
            [[{"role": "user", "content": question}] for question in questions],
            add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True,
        )  # fmt: skip
        inputs = inputs.to(self._model.device)
        ids = self._model.generate(
            **inputs, do_sample=False, max_new_tokens=self._config.max_new_tokens,
            max_time=limit_s, pad_token_id=self._tokenizer.pad_token_id,
        )[:, inputs["input_ids"].shape[1] :]  # fmt: skip
        ends = self._model.generation_config.eos_token_id
        ends = {ends} if isinstance(ends, int) else {*(ends or ()), self._tokenizer.eos_token_id}
        texts = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        ended = [bool(ends & set(row.tolist())) for row in ids]
        return [text if end else None for text, end in zip(texts, ended, strict=True)]
