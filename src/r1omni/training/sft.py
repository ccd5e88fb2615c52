"""Supervised fine-tuning: next-token loss on the assistant's text, the prompt masked out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from r1omni.data.batch import Batch
from r1omni.models.packed import completion_logps
from r1omni.text.prompt import encode_target
from r1omni.training.module import EmotionModule
from r1omni.types import R1OmniError


class SFTModule(EmotionModule):
    """Cold start, label baseline and base training: all are this loss on other data."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        target_ids, mask = self.targets(batch)
        prompts = self.model.embed_prompts(self.prompts(batch))
        logps, _ = completion_logps(self.model, prompts, target_ids, mask)
        loss = -logps.sum() / mask.sum()

        self.log("loss", loss, prog_bar=True, batch_size=len(batch))
        self.log("target_tokens", mask.sum().float(), batch_size=len(batch))
        return loss

    def targets(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Target ids, long [B, C], and their mask, bool [B, C], end tokens included.

        Raises:
            R1OmniError: a sample has no target.
        """
        rows = []
        for sample in batch.samples:
            if sample.target is None:
                raise R1OmniError(
                    f"{sample.sample_id} has no target text; supervised training needs a label "
                    "or a reasoning for every sample"
                )
            rows.append(encode_target(self.omni.tokenizer, sample.target))
        ids = pad_sequence(rows, batch_first=True, padding_value=self.omni.tokenizer.pad_token_id)
        lengths = torch.tensor([len(row) for row in rows])
        mask = torch.arange(ids.shape[1])[None] < lengths[:, None]
        return ids.to(self.device), mask.to(self.device)
