"""The model as other programs see it: a causal language model of transformers.

Rows are prompts with their completions, as token ids. The first id of a row says which prompt it
is; what it holds instead is embedded, clip and all, row by row: a clip that is not encoded goes
through the towers once a row.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel, Qwen2Config
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from r1omni.models.omni import TOWERS, OmniModel
from r1omni.training.optimization import choose_trained
from r1omni.types import PromptInputs
from step_parts.work import Materials


class Backbone(nn.Module):
    """Rows of ids, or embeddings, to hidden states; called as transformers calls a base model."""

    def __init__(self, omni: OmniModel, prompts: PromptInputs, prompt_length: int) -> None:
        super().__init__()
        self.omni, self.prompts, self.prompt_length = omni, prompts, prompt_length

    def embed_rows(self, input_ids: Tensor) -> Tensor:
        """[N, P + C] ids to [N, P + C, D], each row with its clip."""
        asked = input_ids[:, 0].tolist()
        rows = PromptInputs(
            tuple(self.prompts.token_ids[i] for i in asked),
            tuple(self.prompts.instruction_ids[i] for i in asked),
            tuple(self.prompts.media[i] for i in asked),
        )
        prompts = torch.stack(self.omni.embed_prompts(rows))
        written = self.omni.embed_tokens(input_ids[:, self.prompt_length :])
        return torch.cat([prompts, written], dim=1)

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Any = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **_: Any,
    ) -> BaseModelOutputWithPast:
        if inputs_embeds is None:
            assert input_ids is not None
            is_start = cache is None or cache.get_seq_length() == 0
            inputs_embeds = (
                self.embed_rows(input_ids) if is_start else self.omni.embed_tokens(input_ids)
            )
        return self.omni.language_model(  # type: ignore[no-any-return]
            None, attention_mask, position_ids, cache,
            inputs_embeds=inputs_embeds, use_cache=use_cache,
        )  # fmt: skip


class PeerModel(PreTrainedModel, GenerationMixin):
    """Policy or reference of another program.

    Args:
        materials: model, prompts and given completions.
    """

    config_class = Qwen2Config
    base_model_prefix = "model"
    _supports_sdpa = True

    def __init__(self, materials: Materials) -> None:
        config = Qwen2Config(**{**materials.model.config.language.to_dict(), "use_cache": True})
        super().__init__(config)
        choose_trained(materials.model, None)
        materials.model.language_model.set_attn_implementation("sdpa")
        length = materials.prompt_length
        self.model = Backbone(materials.model, materials.prompts, length)
        self.lm_head = materials.model.lm_head
        self.given = materials.completions

    @property
    def omni(self) -> OmniModel:
        return self.model.omni

    def train(self, mode: bool = True) -> PeerModel:
        super().train(mode)
        for name in TOWERS:  # frozen, as ours: without dropout
            self.omni.get_submodule(name).eval()
        return self

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def get_input_embeddings(self) -> nn.Module:
        return self.omni.language_model.embed_tokens

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        cache: Any = None,
        **_: Any,
    ) -> CausalLMOutputWithPast:
        cache = past_key_values if cache is None else cache  # the newer name, from 5.24 on
        found = self.model(input_ids, attention_mask, position_ids, cache, inputs_embeds, use_cache)
        logits = self.lm_head(found.last_hidden_state[:, -logits_to_keep:])
        return CausalLMOutputWithPast(None, logits, cache)

    @torch.no_grad()
    def generate(self, *args: Any, **kwargs: Any) -> Tensor:
        """As transformers generates, of whole length; the given completions take its place."""
        found: Tensor = super().generate(*args, **kwargs)
        length = self.given.shape[1]
        before = found[:, : found.shape[1] - length]
        given = self.given
        if len(given) != len(found):  # of one prompt among several
            given = given[self.first_row : self.first_row + len(found)]
        return torch.cat([before, given], dim=1)

    # Set before `generate` where it is asked for one prompt of several.
    first_row = 0


def rows_of(materials: Materials) -> Tensor:
    """Prompts as ids, long [B, P]: the number of the prompt, and ids that are never looked at."""
    ids = torch.zeros(materials.case.prompts, materials.prompt_length, dtype=torch.long)
    ids[:, 0] = torch.arange(len(ids))
    return ids.to(materials.case.device)
