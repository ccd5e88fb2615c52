"""How probable each emotion is as the answer, given what stands before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerBase

from r1omni.models.omni import OmniModel
from r1omni.models.packed import Embedded
from r1omni.models.sampler import ReadPrompts
from r1omni.ops.logprobs import linear_logprob


@dataclass(frozen=True)
class _Texts:
    """Everything that is read after one prompt, as one row of S tokens.

    Attributes:
        ids: the tokens, [S]; the last token of a candidate is predicted and never read.
        parents: for each the token that it follows, [S]; -1 is the prompt's last.
        predicted: (the token after which a candidate's token stands, that token), for all
            candidates one after the other.
        lengths: tokens of each candidate.
    """

    ids: list[int]
    parents: list[int]
    predicted: list[tuple[int, int]]
    lengths: list[int]


@torch.no_grad()
def emotion_scores(
    model: OmniModel,
    tokenizer: PreTrainedTokenizerBase,
    read: ReadPrompts,
    befores: Sequence[Sequence[str]],
    words: Mapping[str, str],
) -> list[list[dict[str, float]]]:
    """Shares of probability of each emotion, summing to 1, after each of some texts.

    After a text that ends in `<answer>`, how probable is each word with its closing tag and the end
    token? After the empty text each word is scored as the whole completion. A score is the
    probability of the word's tokens together, not a mean over them: the closing tag makes a word
    that begins another one a different text. Only these words are compared; the probability of all
    other texts is left out.

    The prompt is not read again: one pass over its kept keys and values reads all texts and words,
    as branches of a tree, in which a token sees the prompt and what it follows.

    Args:
        model: the model.
        tokenizer: of the language model.
        read: B prompts; afterwards as before.
        befores: texts of each prompt, as many for each; in `read_answer` it is `before`.
        words: by emotion, the word it is written as.

    Returns:
        for each prompt and text the scores by emotion.
    """
    end = str(tokenizer.eos_token)
    trees = []
    for texts in befores:
        candidates = [
            # Whole texts are tokenized: the tokenizer may join the tag's end and the word.
            [
                tokenizer.encode(
                    f"{before}{word}{'</answer>' if before else ''}{end}", add_special_tokens=False
                )
                for word in words.values()
            ]
            for before in texts
        ]
        trees.append(_tree(candidates))
    logps = _candidate_logps(model, read, trees)
    shares = logps.view(len(trees), -1, len(words)).softmax(dim=2).tolist()
    return [[dict(zip(words, row, strict=True)) for row in rows] for rows in shares]


def _tree(texts: Sequence[Sequence[Sequence[int]]]) -> _Texts:
    """Candidates of several texts; what the candidates of a text begin with alike is read once."""
    tree = _Texts([], [], [], [])
    for candidates in texts:
        shared = _common_prefix_length(candidates)
        stem = -1
        for id_ in candidates[0][:shared]:
            tree.ids.append(id_)
            tree.parents.append(stem)
            stem = len(tree.ids) - 1
        for candidate in candidates:
            place = stem
            own = candidate[shared:]
            tree.lengths.append(len(own))
            for index, id_ in enumerate(own):
                tree.predicted.append((place, id_))
                if index < len(own) - 1:
                    tree.ids.append(id_)
                    tree.parents.append(place)
                    place = len(tree.ids) - 1
    return tree


def _common_prefix_length(rows: Sequence[Sequence[int]]) -> int:
    """Tokens that all rows begin with; at least one of every row is left over."""
    longest = min(len(row) for row in rows) - 1
    for index in range(longest):
        if len({row[index] for row in rows}) > 1:
            return index
    return longest


def _candidate_logps(model: OmniModel, read: ReadPrompts, trees: Sequence[_Texts]) -> Tensor:
    """Log-probabilities of the candidates of all prompts one after the other, float32."""
    device = model.device
    states = torch.cat([read.last[:, None], _read_on(model, read, trees)], dim=1)  # [B, 1 + S, D]
    rows = [row for row, tree in enumerate(trees) for _ in tree.predicted]
    pairs = [pair for tree in trees for pair in tree.predicted]
    places, ids = (torch.tensor(column, device=device) for column in zip(*pairs, strict=True))
    chosen = states[torch.tensor(rows, device=device), places + 1]  # [tokens, D]
    logps = linear_logprob(chosen, model.lm_head.weight, ids)
    lengths = [length for tree in trees for length in tree.lengths]
    owner = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths)).to(device)
    return logps.new_zeros(len(lengths)).index_add_(0, owner, logps)


def _read_on(model: OmniModel, read: ReadPrompts, trees: Sequence[_Texts]) -> Tensor:
    """States of the trees' tokens, float [B, S, D], padded on the right."""
    device, prompt = model.device, read.embedded.mask  # bool [B, P]
    length = max(len(tree.ids) for tree in trees)
    if not length:
        return read.last[:, None][:, :0]
    rows = [torch.tensor(tree.ids, dtype=torch.long) for tree in trees]
    ids = pad_sequence(rows, batch_first=True).to(device)
    # What each token follows, itself included.
    behind = np.zeros((len(trees), length, length), dtype=bool)
    for row, tree in zip(behind, trees, strict=True):
        for place, parent in enumerate(tree.parents):
            if parent >= 0:
                row[place] = row[parent]
            row[place, place] = True
    own = torch.from_numpy(behind).to(device)
    visible = torch.cat([prompt[:, None].expand(-1, length, -1), own], dim=2)
    positions = prompt.sum(dim=1, keepdim=True) + own.sum(dim=2) - 1
    embedded = Embedded(model.embed_tokens(ids), torch.ones_like(ids, dtype=torch.bool), positions)
    hidden = model.hidden_states(embedded, visible[:, None], read.cache)
    read.cache.crop(-length)
    return hidden
