"""How probable each emotion is as the answer, given what the model has already written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from r1omni.models.omni import OmniModel
from r1omni.text.answers import read_answer


@torch.no_grad()
def emotion_scores(
    model: OmniModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: Tensor,
    text: str,
    words: Mapping[str, str],
) -> dict[str, float]:
    """Shares of probability of each emotion, summing to 1.

    An answer in tags is scored where it stands: after what is written before it, how probable is
    each word with its closing tag? Without tags each word is scored as the whole completion. Only
    these words are compared; the probability of all other texts is left out.

    Args:
        model: the model that wrote the text.
        tokenizer: of the language model.
        prompt: the embedded prompt, float [L, D].
        text: the completion.
        words: by emotion, the word it is written as.
    """
    end = str(tokenizer.eos_token)
    before = read_answer(text).before
    after = f"</answer>{end}" if before else end
    # Whole texts are tokenized: the tokenizer may join the tag's end and the word.
    ids = [
        tokenizer.encode(f"{before}{word}{after}", add_special_tokens=False)
        for word in words.values()
    ]
    shared = _common_prefix_length(ids)
    start = torch.cat(
        [
            prompt,
            model.embed_tokens(
                torch.tensor(ids[0][:shared], dtype=torch.long, device=model.device)
            ),
        ]
    )
    rows = [torch.tensor(row[shared:]) for row in ids]
    candidates = pad_sequence(rows, batch_first=True).to(model.device)
    lengths = torch.tensor([len(row) for row in rows])
    mask = (torch.arange(candidates.shape[1])[None] < lengths[:, None]).to(model.device)
    logps, _ = model.completion_logps([start], candidates, mask)
    shares = logps.sum(dim=1).softmax(dim=0)
    return dict(zip(words, shares.tolist(), strict=True))


def _common_prefix_length(rows: Sequence[Sequence[int]]) -> int:
    """Tokens that all rows begin with; at least one of every row is left over."""
    longest = min(len(row) for row in rows) - 1
    for index in range(longest):
        if len({row[index] for row in rows}) > 1:
            return index
    return longest
