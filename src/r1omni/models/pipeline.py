"""`R1Omni`: a model with its tokenizers and its media processor, from a folder, ready to use."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from r1omni.media.config import FrameFit
from r1omni.media.processor import MediaProcessor
from r1omni.models.checkpoint import load_model, load_tokenizers, save_model
from r1omni.models.folders import ModelFolder, find_model_folder
from r1omni.models.generate import Sampling, generate, stream_seed
from r1omni.models.omni import OmniModel
from r1omni.models.packed import completion_logps
from r1omni.text.emotions import canonical
from r1omni.text.prompt import R1OMNI_INSTRUCTION, encode_prompt
from r1omni.text.tags import parse_completion
from r1omni.types import Analysis, Clip, ClipMedia, Modality, PromptInputs, UsageError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class R1Omni:
    """An audio-visual emotion model that explains itself.

    Make one by `R1Omni.from_pretrained`. `model` is the `OmniModel`, `tokenizer` the language
    model's, `processor` turns files into tensors.
    """

    def __init__(self, model: OmniModel, folder: ModelFolder) -> None:
        self.model = model
        self.folder = folder
        self.tokenizer, self.text_tokenizer = load_tokenizers(folder)
        self.processor = MediaProcessor(model.config.media)

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        vision_tower: str | Path | None = None,
        audio_tower: str | Path | None = None,
        text_encoder: str | Path | None = None,
        device: str = "cpu",
        dtype: str = "float32",
    ) -> R1Omni:
        """Load a model in the released layout.

        Args:
            path: the model folder, or a repository of the hub ("StarJiaxing/R1-Omni-0.5B").
            vision_tower: folder or repository of the SigLIP tower, where it is not found by
                itself (`r1omni.models.folders` says where it is looked for).
            audio_tower: of the Whisper tower, likewise.
            text_encoder: of the BERT encoder, likewise.
            device: torch device.
            dtype: "float32", "bfloat16" or "float16".

        Raises:
            UsageError: unknown dtype.
            R1OmniError: a folder or its weights cannot be used; one line says which and why.
        """
        if dtype not in DTYPES:
            raise UsageError(f"dtype {dtype!r} is unknown; use one of {', '.join(DTYPES)}")
        folder = find_model_folder(path, vision_tower, audio_tower, text_encoder)
        model = load_model(folder, DTYPES[dtype]).to(device).eval()
        return cls(model, folder)

    def save_pretrained(self, path: str | Path, format: str = "humanomni") -> None:  # noqa: A002
        """Write the model as a folder in the released layout.

        Raises:
            UsageError: another format than "humanomni".
        """
        if format != "humanomni":
            raise UsageError(f"format {format!r} is unknown; use 'humanomni'")
        save_model(self.model, self.folder, Path(path))

    def sampling(self, max_new_tokens: int, temperature: float) -> Sampling:
        """Sampling settings with this tokenizer's end and padding tokens."""
        end_id, pad_id = self.tokenizer.eos_token_id, self.tokenizer.pad_token_id
        return Sampling(max_new_tokens, temperature, (int(end_id),), int(pad_id))

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
            UsageError: a medium that the modality needs is missing.
            R1OmniError: a file cannot be decoded.
        """
        instruction = instruction or R1OMNI_INSTRUCTION
        media = self._media(video, audio, modality, frame_fit)
        return PromptInputs(
            token_ids=(encode_prompt(self.tokenizer, instruction, modality),),
            instruction_ids=(self.encode_instruction(instruction),),
            media=(media,),
        )

    def _media(
        self,
        video: str | Path | Tensor | None,
        audio: str | Path | Tensor | None,
        modality: Modality,
        frame_fit: FrameFit | None,
    ) -> ClipMedia:
        processor = self.processor if frame_fit is None else self.processor.with_fit(frame_fit)
        frames, mel = None, None
        warnings: tuple[str, ...] = ()
        if "video" in modality:
            if video is None:
                raise UsageError(f"modality {modality!r} needs a video; give video=")
            if isinstance(video, Tensor):
                frames = video
            else:
                loaded = processor.load(Clip(Path(video)), "video")
                frames, warnings = loaded.frames, warnings + loaded.warnings
        if "audio" in modality:
            source = audio if audio is not None else video
            if source is None or (isinstance(source, Tensor) and audio is None):
                raise UsageError(f"modality {modality!r} needs sound; give audio=")
            if isinstance(source, Tensor):
                mel = processor.mel(source) if source.dim() == 1 else source.squeeze(0)
            else:
                loaded = processor.load(Clip(Path(source)), "audio")
                mel, warnings = loaded.mel, warnings + loaded.warnings
        return ClipMedia(frames, mel, warnings)

    @torch.no_grad()
    def logits(self, inputs: PromptInputs) -> Tensor:
        """Logits over the whole prompt, media tokens included, float [1, L, V]."""
        return self.model.logits(inputs)

    @torch.no_grad()
    def completion_logps(self, inputs: PromptInputs, completion_ids: Tensor) -> Tensor:
        """Log-probabilities of completions [G, C] of one prompt, float32 [G, C].

        Tokens after a completion's first end token get 0.
        """
        mask = mask_after_end(completion_ids, int(self.tokenizer.eos_token_id))
        prompts = self.model.embed_prompts(inputs)
        device = self.model.device
        return completion_logps(self.model, prompts, completion_ids.to(device), mask.to(device))[0]

    def generate(
        self,
        inputs: PromptInputs,
        max_new_tokens: int = 512,
        do_sample: bool = False,
        temperature: float = 1.0,
        num_return_sequences: int = 1,
        seed: int | None = None,
    ) -> Tensor:
        """Completions of one prompt, long [G, C], padded on the right.

        Args:
            inputs: from `prepare`.
            max_new_tokens: longest completion in tokens.
            do_sample: sample instead of taking the most probable token.
            temperature: sampling temperature.
            num_return_sequences: G.
            seed: seed of the sampling; None draws a fresh one.
        """
        with torch.no_grad():
            prompts = self.model.embed_prompts(inputs)
        if seed is None:
            seed = int(torch.randint(2**31, ()).item())
        seeds = [stream_seed(seed, index) for index in range(num_return_sequences)]
        settings = self.sampling(max_new_tokens, temperature if do_sample else 0.0)
        return generate(
            self.model, prompts, settings, group_size=num_return_sequences, seeds=seeds
        ).ids

    def decode(self, ids: Tensor) -> list[str]:
        """Completions [N, C] as text, without special tokens."""
        return self.tokenizer.batch_decode(ids, skip_special_tokens=True)

    def analyze(
        self,
        path: str | Path,
        modality: Modality = "video_audio",
        instruction: str | None = None,
        max_new_tokens: int = 512,
    ) -> list[Analysis]:
        """What the model says about a recording: one `Analysis` of the whole file."""
        inputs = self.prepare(video=path, audio=path, instruction=instruction, modality=modality)
        text = self.decode(self.generate(inputs, max_new_tokens=max_new_tokens))[0]
        parsed = parse_completion(text)
        media = inputs.media[0]
        return [
            Analysis(
                start_s=0.0,
                end_s=self.processor.duration_s(Path(path)),
                label=canonical(parsed.answer) if parsed.format_ok else canonical(text),
                reasoning=parsed.reasoning,
                text=text,
                format_ok=parsed.format_ok,
                warnings=media.warnings if isinstance(media, ClipMedia) else (),
            )
        ]


def mask_after_end(completion_ids: Tensor, end_id: int) -> Tensor:
    """bool [N, C], True up to and including the first end token of each completion."""
    ended = (completion_ids == end_id).cumsum(dim=1)
    return (ended - (completion_ids == end_id).long()) == 0
