"""The vocabulary of r1omni: what flows from a file on disk to a loss.

Shape legend, used in every docstring of the project:

==== =====================================================================
B    prompts of a batch
G    completions of one prompt (the group)
N    completions of a batch, N = B * G, group members side by side
T    frames of a clip
L    tokens of a prompt, media tokens included
C    tokens of a completion, the end token included
Lv   video tokens, La audio tokens
P    patches of a frame
D    width of the language model, Dv of the vision tower, Da of the audio tower
V    vocabulary
M    mel bins, F mel frames, S samples of a waveform at 16 kHz
==== =====================================================================

Masks are 1 (or True) where the value counts.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    # The command line says what is wrong with a machine, also where torch does not import.
    from torch import Tensor

Medium = Literal["video", "audio"]
# What is done to the media of a test set.
Condition = Literal["full", "muted", "blanked", "swapped", "shuffled"]
CONDITIONS: tuple[Condition, ...] = get_args(Condition)
# What becomes of a clip that a system did not answer, where its answers are scored.
Missing = Literal["refuse", "wrong"]
# Which of several systems are compared with one another, and on which clips.
Pairs = Literal["all", "first"]
ComparedClips = Literal["same", "shared"]
# The medium that a condition of evaluation takes away.
TAKEN_AWAY: Mapping[str, Medium] = {"muted": "audio", "blanked": "video"}
Modality = Literal["video_audio", "video", "audio"]
MODALITIES: tuple[str, ...] = get_args(Modality)
# Of a speaker, as the publisher of a data set states it.
Sex = Literal["female", "male"]
SEXES: tuple[Sex, ...] = get_args(Sex)
# Of acted emotion, as the publisher of a data set states it.
Intensity = Literal["low", "medium", "high", "normal", "strong"]
INTENSITIES: tuple[Intensity, ...] = get_args(Intensity)
# Whether an answer follows reasoning that the model writes, is taken at once, or both side by side.
AnswerMode = Literal["think", "direct", "both"]
ANSWER_MODES: tuple[AnswerMode, ...] = get_args(AnswerMode)
# Which answers are asked for again with a medium taken away (`TAKEN_AWAY`): none, the direct ones,
# or all that the answer mode asks for.
MediaAblation = Literal["none", "direct", "answer"]
MEDIA_ABLATIONS: tuple[MediaAblation, ...] = get_args(MediaAblation)
# Of weights, by torch's names.
Dtype = Literal["float32", "bfloat16", "float16"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)
# A message names so many where many are meant.
NUM_EXAMPLES = 3
# Of a recording that is in its page, where nobody names another size, in 10^6 bytes.
EMBED_MB = 16


class R1OmniError(Exception):
    """A failure that one line explains: the file or key, and what to do. Exit status 1."""


class UsageError(R1OmniError):
    """Wrong use: a bad option, configuration key or missing input. Exit status 2."""


class RunStopped(R1OmniError):
    """What a run goes on with is used up or out of reach, by no fault of one sample.

    Nothing is wrong with what was done before: a training saves it, and can be resumed.
    """


def why_no_file(path: Path) -> str:
    """Why a path is not that of a file, for a message that begins with it."""
    return "is a folder; give a file" if path.is_dir() else "there is no such file"


class Terminated(BaseException):
    """The process was told to end, and its state is saved. Exit status 128 + the signal.

    No `Exception`: code that guards against failing parts must not catch it.

    Attributes:
        signum: what told it, SIGTERM (status 143) or SIGINT (130).
    """

    def __init__(self, message: str, signum: int = signal.SIGTERM) -> None:
        super().__init__(message)
        self.signum = int(signum)


@dataclass(frozen=True)
class Clip:
    """One recording on disk, or a span of it.

    Attributes:
        path: file holding the picture, and the sound unless `audio_path` is given.
        audio_path: separate sound file, or None for the sound of `path`.
        start_s: start of the span in seconds, or None for the beginning.
        end_s: end of the span in seconds, or None for the end.
    """

    path: Path
    audio_path: Path | None = None
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class Sample:
    """One clip, what is asked about it, and what is known about it.

    Attributes:
        sample_id: unique name, `<dataset>/<name>`.
        clip: the recording.
        instruction: the user's text, without media tags and without the chat template.
        modality: which media the prompt carries.
        label: class name in the dataset's label set (see `r1omni.text.emotions`), or None.
        target: the assistant's whole text for supervised training, or None.
        dataset: name of the loader that made the sample.
        group: unit of resampling for intervals (actor, speaker), or None for the clip itself.
        sex: of the speaker, as the publisher states it, or None where that is not known.
        intensity: with which the emotion is acted, as the publisher states it, or None.
        language: that is spoken, as ISO 639-1 has it ("de"), or None where that is not known.
        label_set: name of the label set in force, or None.
        open_labels: free words for the emotion, in an open vocabulary, or None.
        cues: what the clip is known to show, (medium, attribute, value) as `text/cue_words.py`
            lists them, or None where that is not known.
        missing: the medium that is taken away, of a training sample; silence or black frames
            stand in for it.
        place: where the sample is written, such as "labels.csv, line 3", for messages.
    """

    sample_id: str
    clip: Clip
    instruction: str
    modality: Modality = "video_audio"
    label: str | None = None
    target: str | None = None
    dataset: str = ""
    group: str | None = None
    sex: Sex | None = None
    intensity: Intensity | None = None
    language: str | None = None
    label_set: str | None = None
    open_labels: tuple[str, ...] | None = None
    cues: tuple[tuple[str, str, str], ...] | None = None
    missing: Medium | None = None
    place: str = field(default="", compare=False)


@dataclass(frozen=True)
class ClipMedia:
    """A clip decoded and processed, ready for the towers.

    Attributes:
        frames: uint8 [T, 3, H, W], sampled and resized, before scaling; None without video.
        mel: float32 [M, F] Whisper log-mel spectrogram; None without audio.
        warnings: what a person should know ("no audio track: silence is used", ...).
        sound_warnings: those of them that are about the sound; they come last.
    """

    frames: Tensor | None
    mel: Tensor | None
    warnings: tuple[str, ...] = ()
    sound_warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClipFeatures:
    """A clip after the frozen towers.

    Attributes:
        video: float [T, P, Dv] patch features, or None without video.
        audio: float [La, Da] pooled audio features, or None without audio.
        warnings, sound_warnings: what a person should know about the clip, as in `ClipMedia`.
    """

    video: Tensor | None
    audio: Tensor | None
    warnings: tuple[str, ...] = ()
    sound_warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class PromptInputs:
    """Prompts of a batch, each with its own media, not yet padded.

    Attributes:
        token_ids: one long tensor [L_text] a prompt; `VIDEO_PLACEHOLDER` and
            `AUDIO_PLACEHOLDER` of `r1omni.text.prompt` stand where media tokens go.
        instruction_ids: one long tensor a prompt, the instruction for the gate's text encoder.
        media: one entry a prompt, processed or already encoded.
    """

    token_ids: tuple[Tensor, ...]
    instruction_ids: tuple[Tensor, ...]
    media: tuple[ClipMedia | ClipFeatures, ...]

    def __len__(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True)
class Rollout:
    """Completions sampled from the policy, group members side by side.

    Attributes:
        prompts: the B prompts.
        completion_ids: long [N, C], right-padded.
        mask: bool [N, C], True up to and including the first end token.
        logps: float32 [N, C], log-probabilities of the sampled tokens at the sampling
            temperature, recorded while sampling.
        texts: N decoded completions, special tokens kept but for the end token.
        group_size: G.
        end_ids: the tokens that end a completion.
        prompt_lengths: tokens of each of the B prompts, media tokens included.
    """

    prompts: PromptInputs
    completion_ids: Tensor
    mask: Tensor
    logps: Tensor
    texts: tuple[str, ...]
    group_size: int
    end_ids: tuple[int, ...]
    prompt_lengths: tuple[int, ...]

    @property
    def ended(self) -> Tensor:
        """bool [N]: whether an end token closed the completion."""
        last = self.mask.sum(dim=1) - 1
        closing = self.completion_ids.gather(1, last[:, None])
        return (closing == closing.new_tensor(self.end_ids)).any(dim=1)


@dataclass(frozen=True)
class Ablated:
    """What the model says of a span that a medium was taken from; fields are those of `Analysis`.

    Attributes:
        label: None also where only direct answers are asked for again.
        scores: empty likewise.
        direct_label, direct_scores: None where direct answers are not asked for.
    """

    label: str | None
    scores: dict[str, float]
    direct_label: str | None
    direct_scores: dict[str, float] | None


@dataclass(frozen=True)
class Analysis:
    """What the model says about one span of a recording.

    Attributes:
        start_s, end_s: the span in seconds.
        label: canonical emotion, or None when the answer could not be read, or the span holds
            nothing to answer from.
        scores: share of probability for each emotion that was scored, of the answer in `text`;
            may be empty.
        reasoning: text inside `<think>`, or "".
        text: the whole completion, special tokens included, but for the end token.
        format_ok: whether the completion has exactly the answer format and has ended.
        warnings: what a person should know about the input.
        direct_label: the most probable emotion after an empty reasoning, or None where it was not
            asked for (answer mode "think").
        direct_scores: share of probability for each emotion there, or None.
        ablation: by condition ("muted", "blanked") what the model says without a medium that the
            span has; None where it was not asked for.
    """

    start_s: float
    end_s: float
    label: str | None
    scores: dict[str, float] = field(default_factory=dict)
    reasoning: str = ""
    text: str = ""
    format_ok: bool = False
    warnings: tuple[str, ...] = ()
    direct_label: str | None = None
    direct_scores: dict[str, float] | None = None
    ablation: dict[str, Ablated] | None = None
