"""The shared multimodal model: towers, projectors, gate and language model.

Both LightningModules train this one class. It knows nothing of prompts as text or files, and of a
loss only that its terms are one a token: so the head and the loss can be computed together.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from transformers import Cache, Qwen2Model

from r1omni.media.config import normalise_frames
from r1omni.models.attention import PACKED_ATTENTION, PackedRows
from r1omni.models.config import OmniConfig
from r1omni.models.flex import Attention, FlexRows
from r1omni.models.packed import Embedded, pack, pad_embeds, pad_ids
from r1omni.models.projector import Gate, VideoProjector, audio_projector
from r1omni.models.towers import AudioTower, TextTower, VisionTower
from r1omni.models.weights import WithoutInitialWeights
from r1omni.ops import (
    TokenObjective,
    linear_logprob,
    selective_logprob,
    selective_logprob_and_entropy,
)
from r1omni.text.prompt import AUDIO_PLACEHOLDER, VIDEO_PLACEHOLDER
from r1omni.types import ClipFeatures, ClipMedia, PromptInputs

if TYPE_CHECKING:
    from r1omni.models.sampler import SamplerMemory

CLIP_TOWERS = ("vision_tower", "audio_tower")
TOWERS = (*CLIP_TOWERS, "text_tower")
# What a sharded model is asked for: around these methods `parallelize` has it gather its weights.
FORWARD_METHODS = (
    "encode_media", "embed_prompts", "hidden_states", "logits", "completion_logps",
    "completion_loss",
)  # fmt: skip


class OmniModel(nn.Module):
    """HumanOmni / R1-Omni at any size (arXiv 2501.15111, 2503.05379).

    The methods of `FORWARD_METHODS` are its doors: with a sharded model each of them is called by
    all ranks together, and none of them calls another.

    Args:
        config: sizes of every part.
        filled_later: of the towers and "language_model" those that get no first values, which take
            time and memory: their weights are read from files afterwards.
    """

    def __init__(self, config: OmniConfig, filled_later: Collection[str] = ()) -> None:
        super().__init__()
        self.config = config
        width = config.language.hidden_size

        def room(part: str) -> AbstractContextManager[object]:
            return WithoutInitialWeights() if part in filled_later else nullcontext()

        with room("vision_tower"):
            self.vision_tower = VisionTower(config.vision, config.vision_select_layer)
        with room("audio_tower"):
            self.audio_tower = AudioTower(config.audio, config.audio_select_layer)
        with room("text_tower"):
            self.text_tower = TextTower(config.text)
        self.gate = Gate(config.text.hidden_size, config.gate_hidden_size)
        self.video_projector = VideoProjector(config.vision.hidden_size, width)
        self.audio_projector = audio_projector(config.audio.d_model, width)
        with room("language_model"):
            self.language_model = Qwen2Model(config.language)
            self.lm_head = nn.Linear(width, config.language.vocab_size, bias=False)
        self.language_model.set_attn_implementation(PACKED_ATTENTION)
        if config.language.tie_word_embeddings:
            self.lm_head.weight = self.language_model.embed_tokens.weight
        # How attention over packed rows is computed.
        self.attention: Attention = "sdpa"
        # What sampling on a CUDA device keeps from one call to the next.
        self.sampler_memory: SamplerMemory | None = None

    @property
    def device(self) -> torch.device:
        return self.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of embeddings, and so of whatever stands among them."""
        return self.language_model.embed_tokens.weight.dtype

    # Towers ---------------------------------------------------------------------------------

    def encode_media(self, media: Sequence[ClipMedia | ClipFeatures]) -> list[ClipFeatures]:
        """Run the vision and audio towers over the clips that are not encoded yet.

        Returns:
            one `ClipFeatures` a clip, in order, on the model's device.
        """
        return self._encoded(media)

    def _encoded(self, media: Sequence[ClipMedia | ClipFeatures]) -> list[ClipFeatures]:
        waiting = [item for item in media if isinstance(item, ClipMedia)]
        videos = iter(self._encode_frames([m.frames for m in waiting if m.frames is not None]))
        sounds = iter(self._encode_mels([m.mel for m in waiting if m.mel is not None]))
        encoded = []
        for item in media:
            if isinstance(item, ClipMedia):
                video = next(videos) if item.frames is not None else None
                audio = next(sounds) if item.mel is not None else None
            else:
                video, audio = item.video, item.audio
            # A tower may be kept in another dtype than the rest.
            told = item.warnings, item.sound_warnings
            encoded.append(ClipFeatures(self._to_model(video), self._to_model(audio), *told))
        return encoded

    def _to_model(self, tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(self.device, self.dtype)

    def _encode_frames(self, clips: list[Tensor]) -> list[Tensor]:
        """uint8 or already normalised float [T, 3, H, W] each, to [T, P, Dv] each."""
        if not clips:
            return []
        # Each by itself: stacking would turn bytes beside floats into floats that look normalised.
        stacked = torch.stack([self._normalised(clip.to(self.device)) for clip in clips])
        dtype = next(self.vision_tower.parameters()).dtype
        features = self.vision_tower(stacked.to(dtype).flatten(0, 1))
        return list(features.unflatten(0, stacked.shape[:2]))

    def _normalised(self, frames: Tensor) -> Tensor:
        if frames.dtype != torch.uint8:
            return frames
        return normalise_frames(frames, self.config.media)

    def _encode_mels(self, mels: list[Tensor]) -> list[Tensor]:
        """float [M, F] each, to [La, Da] each."""
        if not mels:
            return []
        dtype = next(self.audio_tower.parameters()).dtype
        return list(self.audio_tower(torch.stack(mels).to(self.device, dtype)))

    # Media tokens ---------------------------------------------------------------------------

    def branch_weights(self, instruction_ids: Sequence[Tensor]) -> Tensor:
        """The gate's weights for each instruction, float [B, 3].

        Equal instructions are encoded once: in training nearly all of a batch ask the same.
        """
        distinct = {tuple(ids.tolist()): ids for ids in instruction_ids}
        padded = pad_ids(list(distinct.values()), self.device)
        weights = self.gate(self.text_tower(*padded).to(self.dtype))
        rows = {key: index for index, key in enumerate(distinct)}
        return weights[[rows[tuple(ids.tolist())] for ids in instruction_ids]]

    def media_tokens(
        self, features: Sequence[ClipFeatures], instruction_ids: Sequence[Tensor]
    ) -> list[tuple[Tensor | None, Tensor | None]]:
        """Video tokens [Lv, D] and audio tokens [La, D] of each prompt, None where not given."""
        with_video = [i for i, item in enumerate(features) if item.video is not None]
        with_audio = [i for i, item in enumerate(features) if item.audio is not None]
        videos: dict[int, Tensor] = {}
        audios: dict[int, Tensor] = {}
        if with_video:
            weights = self.branch_weights([instruction_ids[i] for i in with_video])
            stacked = torch.stack([_given(features[i].video) for i in with_video])
            videos = dict(zip(with_video, self.video_projector(stacked, weights), strict=True))
        if with_audio:
            stacked = torch.stack([_given(features[i].audio) for i in with_audio])
            audios = dict(zip(with_audio, self.audio_projector(stacked), strict=True))
        return [(videos.get(i), audios.get(i)) for i in range(len(features))]

    def embed_prompts(self, prompts: PromptInputs) -> list[Tensor]:
        """Prompts as embeddings [L_i, D], media tokens spliced in where the placeholders stand."""
        return self._embedded(prompts)

    def _embedded(self, prompts: PromptInputs) -> list[Tensor]:
        features = self._encoded(prompts.media)
        tokens = self.media_tokens(features, prompts.instruction_ids)
        return [
            self._splice(ids.to(self.device), *media)
            for ids, media in zip(prompts.token_ids, tokens, strict=True)
        ]

    def embed_tokens(self, token_ids: Tensor) -> Tensor:
        return self.language_model.embed_tokens(token_ids)

    def _splice(self, ids: Tensor, video: Tensor | None, audio: Tensor | None) -> Tensor:
        pieces = []
        start = 0
        for index in torch.nonzero(ids < 0).flatten().tolist():
            medium = {VIDEO_PLACEHOLDER: video, AUDIO_PLACEHOLDER: audio}[int(ids[index])]
            if medium is None:
                kind = "video" if int(ids[index]) == VIDEO_PLACEHOLDER else "audio"
                raise ValueError(f"the prompt asks for {kind}, but its media hold none")
            pieces += [self.embed_tokens(ids[start:index]), medium]
            start = index + 1
        pieces.append(self.embed_tokens(ids[start:]))
        return torch.cat(pieces)

    # Language model -------------------------------------------------------------------------

    def hidden_states(
        self,
        embedded: Embedded,
        packed: PackedRows | FlexRows | Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Last hidden states of the language model, float [B, L, D].

        Args:
            embedded: the sequences.
            packed: how the sequences are packed, or bool [B, 1, L, K], which of the K keys of the
                cache and of the sequences each token sees; None = each is one text, causal over
                the tokens that `embedded.mask` marks.
            cache: keys and values of earlier tokens, extended in place.
        """
        return self._hidden(embedded, packed, cache)

    def _hidden(
        self,
        embedded: Embedded,
        packed: PackedRows | FlexRows | Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        mask = embedded.mask if packed is None else {"full_attention": packed}
        # By place: what the cache is called depends on the version of transformers.
        return self.language_model(
            None, mask, embedded.positions, cache,
            inputs_embeds=embedded.embeds, use_cache=cache is not None,
        ).last_hidden_state  # fmt: skip

    def logits(self, prompts: PromptInputs) -> Tensor:
        """Logits over whole prompts, float [B, L, V]; rows are padded on the right."""
        return self.lm_head(self._hidden(pad_embeds(self._embedded(prompts))))

    def completion_logps(
        self,
        prompts: PromptInputs | Sequence[Tensor],
        completion_ids: Tensor,
        mask: Tensor,
        *,
        temperature: float = 1.0,
        with_entropy: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Log-probabilities of G completions of each prompt, in one pass over the prompt.

        Only the positions that predict a completion token reach the head: logits of the prompt are
        never computed.

        Args:
            prompts: B prompts, or the same embedded, [P_i, D] each.
            completion_ids: long [N, C], group members side by side, N = B * G.
            mask: bool [N, C], True up to and including the end token.
            temperature: the temperature the completions were sampled at.
            with_entropy: also return the entropy of each predicting distribution.

        Returns:
            float32 [N, C] log-probabilities, 0 where `mask` is False; float32 [N, C] or None.
        """
        read, ids = self._predicting(prompts, completion_ids, mask)
        blank = torch.zeros(mask.shape, dtype=torch.float32, device=mask.device)
        if with_entropy:
            chosen, entropies = selective_logprob_and_entropy(self.lm_head(read), ids, temperature)
            return blank.masked_scatter(mask, chosen), blank.masked_scatter(mask, entropies)
        if torch.is_grad_enabled():
            chosen = selective_logprob(self.lm_head(read), ids, temperature)
        else:  # nobody needs the logits again, so they never exist as a whole
            chosen = linear_logprob(read, self.lm_head.weight, ids, temperature)
        return blank.masked_scatter(mask, chosen), None

    def completion_loss(
        self,
        prompts: PromptInputs | Sequence[Tensor],
        completion_ids: Tensor,
        mask: Tensor,
        objective: TokenObjective,
        *,
        with_entropy: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """A loss of G completions of each prompt whose logits never exist as a whole.

        Args:
            prompts, completion_ids, mask: as for `completion_logps`.
            objective: the loss, a term a token.
            with_entropy: also return the entropies.

        Returns:
            The loss, log-probabilities and entropies of `TokenObjective.loss`.
        """
        read, ids = self._predicting(prompts, completion_ids, mask)
        return objective.loss(read, self.lm_head.weight, ids, mask, with_entropy=with_entropy)

    def _predicting(
        self, prompts: PromptInputs | Sequence[Tensor], completion_ids: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Hidden states [tokens, D] that predict the completions, and the tokens' ids."""
        embedded = self._embedded(prompts) if isinstance(prompts, PromptInputs) else prompts
        ids = completion_ids[mask]
        heads_per_key = self.config.heads_per_key
        packed = pack(embedded, self.embed_tokens(ids), mask, heads_per_key, self.attention)
        return packed.predicting(self._hidden(packed.embedded, packed.rows)), ids


def _given(tensor: Tensor | None) -> Tensor:
    assert tensor is not None  # callers select by this very condition
    return tensor
