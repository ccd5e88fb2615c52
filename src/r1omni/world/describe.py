"""Captions and reasonings, composed from cue words in a fixed order.

The grammar is small on purpose: a word-level tokenizer of about 300 words covers everything.
"""

from __future__ import annotations

from r1omni.world.cues import FACE_VALUES, VOICE_VALUES, FaceCues, VoiceCues
from r1omni.world.story import EMOTIONS

EMOTION_QUESTION = (
    "As an emotional recognition expert; throughout the video, which emotion conveyed by the "
    "characters is the most obvious to you?"
)
REASONING_QUESTION = (
    EMOTION_QUESTION
    + "\nOutput the thinking process in <think> </think> and final emotion in <answer> </answer>"
    " tags."
)
CAPTION_QUESTIONS: dict[str, str] = {
    "video_audio": "Describe the face and the voice.",
    "video": "Describe the face.",
    "audio": "Describe the voice.",
}
OBSERVATION_QUESTION = "Tell what stands out in the face and in the voice."
MEDIA_TAGS: dict[str, str] = {
    "video_audio": "<video>\n<audio>\n",
    "video": "<video>\n",
    "audio": "<audio>\n",
}

# Subject, whether it takes "are", and what is said of it.
_FACE_PHRASES: dict[tuple[str, str], tuple[str, bool, str]] = {
    ("mouth", "corners up"): ("the mouth corners", True, "up"),
    ("mouth", "corners down"): ("the mouth corners", True, "down"),
    ("mouth", "one corner up"): ("one mouth corner", False, "up"),
}
_UNREMARKABLE = ("relaxed", "closed", "medium", "moderate")


def describe_face(cues: FaceCues) -> str:
    """All five attributes: "Brows raised, eyes wide, nose relaxed, mouth pressed, jaw closed."."""
    return _listing([(name, getattr(cues, name)) for name in FACE_VALUES])


def describe_voice(cues: VoiceCues) -> str:
    """All five attributes: "Pitch high, loudness soft, rate fast, voice trembling, tone dark."."""
    names = {"steadiness": "voice"}
    return _listing([(names.get(name, name), getattr(cues, name)) for name in VOICE_VALUES])


def describe_both(face: FaceCues, voice: VoiceCues) -> str:
    """Face, then voice, in one sentence."""
    first, second = describe_face(face), describe_voice(voice)
    return f"{first[:-1]}; {second[0].lower()}{second[1:]}"


def observation(face: FaceCues, voice: VoiceCues) -> str:
    """The remarkable cues of a clip in two sentences, without an emotion."""
    return f"In the video, {_face_clause(face)}. In the audio, {_voice_clause(voice)}."


def reasoning(face: FaceCues, voice: VoiceCues, word: str) -> str:
    """At most 40 words that name the remarkable cues of the clip and end with the emotion."""
    return f"{observation(face, voice)} Together they suggest {EMOTIONS[word].noun}."


def tagged_reasoning(face: FaceCues, voice: VoiceCues, word: str) -> str:
    """The answer in R1-Omni's form."""
    return f"<think>{reasoning(face, voice, word)}</think>\n<answer>{word}</answer>"


def _listing(pairs: list[tuple[str, str]]) -> str:
    text = ", ".join(f"{name} {value}" for name, value in pairs)
    return f"{text[0].upper()}{text[1:]}."


def _face_clause(cues: FaceCues) -> str:
    """The face in words, the verb only once: "the brows are raised and the jaw dropped"."""
    parts: list[str] = []
    for name in FACE_VALUES:
        value = getattr(cues, name)
        if value in _UNREMARKABLE:
            continue
        plural = name in ("brows", "eyes")
        subject, plural, state = _FACE_PHRASES.get((name, value), (f"the {name}", plural, value))
        verb = (" are" if plural else " is") if not parts else ""
        parts.append(f"{subject}{verb} {state}")
    return _enumerate(parts) if parts else "the face is relaxed"


def _voice_clause(cues: VoiceCues) -> str:
    values = [getattr(cues, name) for name in VOICE_VALUES]
    # A voice is always dark or bright, so there is something to tell.
    return f"the voice is {_enumerate([v for v in values if v not in _UNREMARKABLE])}"


def _enumerate(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
