"""`R1Omni`: a model with its tokenizers and its media processor, from a folder, ready to use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, overload

import torch
from torch import Tensor

from r1omni.media.config import FrameFit
from r1omni.media.processor import MediaProcessor
from r1omni.media.windows import as_given, check_intervals
from r1omni.models import given_tensors as given
from r1omni.models.answering import Question
from r1omni.models.checkpoint import (
    check_device,
    end_tokens,
    load_tokenizers,
    unfilled_model,
)
from r1omni.models.config import TORCH_DTYPES
from r1omni.models.folders import ModelFolder, find_model_folder
from r1omni.models.omni import OmniModel
from r1omni.models.released import fill
from r1omni.models.sampler import (
    Sampled,
    Sampling,
    generate,
    generate_stream,
    mask_after_end,
)
from r1omni.models.saving import save_model
from r1omni.models.spans import analyze_windows
from r1omni.options import at_least, check_choice, check_number, check_type
from r1omni.streams import stream_seed
from r1omni.text.prompt import R1OMNI_INSTRUCTION, decode_completion, encode_prompt
from r1omni.types import (
    Analysis,
    AnswerMode,
    ClipMedia,
    Dtype,
    MediaAblation,
    Modality,
    PromptInputs,
    UsageError,
)


class R1Omni:
    """An audio-visual emotion model that explains itself.

    Make one by `R1Omni.from_pretrained`. `model` is the `OmniModel`, `tokenizer` the language
    model's, `processor` turns files into tensors, `end_ids` are the tokens that end a completion.
    """

    def __init__(self, model: OmniModel, folder: ModelFolder) -> None:
        self.model = model
        self.folder = folder
        self.tokenizer, self.text_tokenizer = load_tokenizers(folder)
        self.end_ids = end_tokens(folder.main, self.tokenizer)
        self.processor = MediaProcessor(model.config.media)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        vision_tower: str | Path | None = None,
        audio_tower: str | Path | None = None,
        text_encoder: str | Path | None = None,
        device: str = "cpu",
        dtype: Dtype = "float32",
        with_weights: bool = True,
    ) -> R1Omni:
        """Load a model in the released layout.

        Args:
            path: the model folder, or a repository of the hub ("StarJiaxing/R1-Omni-0.5B", or with
                "@" and a commit, tag or branch behind it).
            vision_tower: folder or repository of the SigLIP tower, where it is not found by
                itself (`r1omni.models.folders` says where it is looked for).
            audio_tower: of the Whisper tower, likewise.
            text_encoder: of the BERT encoder, likewise.
            device: torch device.
            dtype: "float32", "bfloat16" or "float16".
            with_weights: False leaves the weights without values until `read_weights`.

        Raises:
            UsageError: unknown dtype or device, or a device that this machine does not have.
            R1OmniError: a folder or its weights cannot be used; one line says which and why.
        """
        check_choice("dtype", dtype, Dtype)
        check_device(device)
        folder = find_model_folder(path, vision_tower, audio_tower, text_encoder)
        model = unfilled_model(folder, TORCH_DTYPES[dtype]).to(device).eval()
        omni = cls(model, folder)
        if with_weights:
            omni.read_weights()
        return omni

    def read_weights(self) -> None:
        """Read the folder's weights to where the model is, a tensor at a time, or its shards.

        Files are mapped: of a sharded model a rank reads its own from the disk, and all ranks of
        a node have whatever is read in memory once.

        Raises:
            R1OmniError: weights are missing, unreadable, unexpected or of another shape.
        """
        fill(self.model, self.folder)

    def save_pretrained(self, path: str | Path, format: str = "humanomni") -> None:  # noqa: A002
        """Write the model as a folder in the released layout.

        Raises:
            UsageError: another format than "humanomni".
        """
        if format != "humanomni":
            raise UsageError(f"format {format!r} is unknown; use 'humanomni'")
        save_model(self.model, self.folder, Path(path))

    @property
    def origin(self) -> dict[str, str]:
        """`owner/name@commit` of each part (main, vision_tower, ...) that is from the hub.

        A model folder keeps it, so it names the first download of a chain of stages.
        """
        return self.folder.origin(self.model.config.released)

    def use_frame_fit(self, frame_fit: FrameFit) -> None:
        """Make frames square in this way from now on; a folder that is saved says so, too."""
        self.processor = self.processor.with_fit(frame_fit)
        config = self.model.config
        self.model.config = replace(
            config,
            media=self.processor.config,
            released={**config.released, "image_aspect_ratio": frame_fit},
        )

    def sampling(self, max_new_tokens: int, temperature: float) -> Sampling:
        """Sampling settings with this tokenizer's end and padding tokens."""
        pad_id = int(self.tokenizer.pad_token_id)
        return Sampling(max_new_tokens, temperature, self.end_ids, pad_id)

    def encode_instruction(self, instruction: str) -> Tensor:
        """Token ids of the instruction for the gate's text encoder, long [L]."""
        limit = self.model.config.text.max_position_embeddings
        ids = self.text_tokenizer(instruction, truncation=True, max_length=limit)["input_ids"]
        return torch.tensor(ids, dtype=torch.long)

    def prepare(
        self,
        video: str | Path | Tensor | None = None,
        audio: str | Path | Tensor | None = None,
        instruction: str | None = None,
        modality: Modality = "video_audio",
        frame_fit: FrameFit | None = None,
    ) -> PromptInputs:
        """A prompt about one clip.

        Args:
            video: a file, or pixel values float [T, 3, H, W].
            audio: a file, a waveform float [S] at 16 kHz, or a mel float [1, M, F]; omitted, the
                sound comes from the video file.
            instruction: the question; None asks R1-Omni's.
            modality: "video_audio", "video" or "audio".
            frame_fit: "pad", "squash" or None for the checkpoint's.

        Raises:
            UsageError: a medium that the modality needs is missing, a tensor does not fit, or the
                instruction is empty.
            R1OmniError: a file cannot be decoded.
        """
        given.check_sources(video, audio, instruction, modality)
        processor = self.processor if frame_fit is None else self.processor.with_fit(frame_fit)
        media = given.read_media(video, audio, modality, processor)
        return self.prompt(media, instruction, modality)

    def prompt(self, media: ClipMedia, instruction: str | None, modality: Modality) -> PromptInputs:
        """The prompt about a clip that is decoded already; arguments as for `prepare`."""
        instruction = R1OMNI_INSTRUCTION if instruction is None else instruction
        return PromptInputs(
            token_ids=(encode_prompt(self.tokenizer, instruction, modality),),
            instruction_ids=(self.encode_instruction(instruction),),
            media=(media,),
        )

    @torch.no_grad()
    def logits(self, inputs: PromptInputs) -> Tensor:
        """Logits over the whole prompt, media tokens included, float [1, L, V]."""
        given.check_inputs(inputs)
        return self.model.logits(inputs)

    @torch.no_grad()
    def completion_logps(self, inputs: PromptInputs, completion_ids: Tensor) -> Tensor:
        """Log-probabilities of completions [G, C] of one prompt, float32 [G, C].

        Tokens after a completion's first end token get 0.
        """
        given.check_inputs(inputs)
        given.check_completions(completion_ids, self.model.lm_head.weight.shape[0])
        mask = mask_after_end(completion_ids, self.end_ids)
        device = self.model.device
        return self.model.completion_logps(inputs, completion_ids.to(device), mask.to(device))[0]

    @overload
    def generate(
        self,
        inputs: PromptInputs,
        max_new_tokens: int = 512,
        do_sample: bool = False,
        temperature: float = 1.0,
        num_return_sequences: int = 1,
        seed: int | None = None,
        stream: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def generate(
        self,
        inputs: PromptInputs,
        max_new_tokens: int = 512,
        do_sample: bool = False,
        temperature: float = 1.0,
        num_return_sequences: int = 1,
        seed: int | None = None,
        *,
        stream: Literal[True],
    ) -> Iterator[Tensor]: ...

    def generate(
        self,
        inputs: PromptInputs,
        max_new_tokens: int = 512,
        do_sample: bool = False,
        temperature: float = 1.0,
        num_return_sequences: int = 1,
        seed: int | None = None,
        stream: bool = False,
    ) -> Tensor | Iterator[Tensor]:
        """Completions of one prompt, long [G, C], padded on the right.

        Args:
            inputs: from `prepare`.
            max_new_tokens: longest completion in tokens.
            do_sample: sample instead of taking the most probable token.
            temperature: sampling temperature, with `do_sample` alone.
            num_return_sequences: G.
            seed: seed of the sampling; None draws a fresh one.
            stream: give the same completions piece by piece while they are written: an iterator of
                long [G, k], k at most 8, which side by side are [G, C].

        Raises:
            UsageError: a number out of its range.
        """
        given.check_inputs(inputs)
        given.check_greedy(do_sample, temperature)
        check_number("num_return_sequences", num_return_sequences, at_least(1), int)
        settings = self.sampling(max_new_tokens, temperature if do_sample else 0.0)
        with torch.no_grad():
            prompts = self.model.embed_prompts(inputs)
        if seed is None:
            seed = int(torch.randint(2**31, ()).item())
        seeds = [stream_seed(seed, index) for index in range(num_return_sequences)]
        drawn = self.model, prompts, settings
        if stream:
            return generate_stream(*drawn, group_size=num_return_sequences, seeds=seeds)
        return generate(*drawn, group_size=num_return_sequences, seeds=seeds).ids

    def decode(self, ids: Tensor) -> list[str]:
        """Completions [N, C] as text, without special tokens."""
        return self.tokenizer.batch_decode(ids, skip_special_tokens=True)

    def completions(self, sampled: Sampled) -> tuple[list[str], list[bool]]:
        """N sampled completions as readers of answers take them (`decode_completion`).

        Returns:
            N texts with special tokens, and whether an end token closed each.
        """
        rows = zip(sampled.ids.tolist(), sampled.mask.sum(dim=1).tolist(), strict=True)
        read = [decode_completion(self.tokenizer, row[:n], self.end_ids) for row, n in rows]
        return [text for text, _ in read], [ended for _, ended in read]

    def analyze(
        self,
        path: str | Path,
        modality: Modality = "video_audio",
        window_s: float | None = None,
        hop_s: float | None = None,
        instruction: str | None = None,
        max_new_tokens: int = 512,
        label_set: str = "all",
        answer_mode: AnswerMode = "think",
        intervals: Sequence[tuple[float, float]] | None = None,
        batch_size: int = 1,
        media_ablation: MediaAblation = "none",
    ) -> list[Analysis]:
        """The list of what `iter_analyses` gives; intervals in the order they were given in."""
        asked = modality, window_s, hop_s, instruction, max_new_tokens, label_set, answer_mode
        found = list(self.iter_analyses(path, *asked, intervals, batch_size, media_ablation))
        return found if intervals is None else as_given(found, intervals)

    def iter_analyses(
        self,
        path: str | Path,
        modality: Modality = "video_audio",
        window_s: float | None = None,
        hop_s: float | None = None,
        instruction: str | None = None,
        max_new_tokens: int = 512,
        label_set: str = "all",
        answer_mode: AnswerMode = "think",
        intervals: Sequence[tuple[float, float]] | None = None,
        batch_size: int = 1,
        media_ablation: MediaAblation = "none",
    ) -> Iterator[Analysis]:
        """What the model says about a recording, or about one span of it after the other.

        Answers are given in order, as soon as they are known. Only `batch_size` spans are in memory
        at a time, however long the recording is; where an answer has ended, the next span begins. A
        span without picture or sound, where both are asked for, is answered from the other medium;
        one that has nothing of what is asked for is not answered (label None). Its warnings say so.

        Args:
            path: the recording.
            modality, instruction, max_new_tokens, label_set, answer_mode, media_ablation: as in
                `Question`.
            window_s: length of a window in seconds; None takes the recording as a whole.
            hop_s: seconds from the start of one window to the next; None is `window_s`.
            intervals: (start, end) in seconds in place of windows; answered by their ends.
            batch_size: spans that are answered at once, at most.

        Raises:
            UsageError: a length that is not positive, windows beside intervals, or an unknown
                modality, label set or mode.
            R1OmniError: the file cannot be decoded, has neither picture nor sound, or lacks the one
                that the modality names.
        """
        asked = modality, instruction, max_new_tokens, label_set, answer_mode, media_ablation
        question = Question(*asked)
        check_number("batch_size", batch_size, at_least(1), int)
        check_type("path", path, str | Path)
        windows = self.processor.load_windows(
            Path(path), window_s, hop_s, modality, check_intervals(intervals, window_s)
        )
        yield from analyze_windows(self, windows, question, batch_size)
