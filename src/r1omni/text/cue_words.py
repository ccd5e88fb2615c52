"""The words for what a face shows and how a voice sounds, in English.

A cue is a value of an attribute: brows raised, pitch low. `VALUES` lists what there is; the tables
below it say which words stand for which cue, by the part of the face or of the voice that they are
said of, since "low" is something else of brows and of a voice. A phrase is written with "_" between
its words, and a word with a hyphen as two words. Words for one state come with their other forms.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# medium -> attribute -> values; the first value of an attribute in `RESTING` is its rest.
VALUES: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "video": {
            "face": ("relaxed",),
            "brows": ("relaxed", "raised", "lowered", "drawn together", "furrowed"),
            "eyes": ("relaxed", "wide", "narrowed", "half closed", "tearful"),
            "nose": ("relaxed", "wrinkled"),
            "mouth": ("relaxed", "corners up", "corners down", "one corner up", "pressed")
            + ("stretched",),
            "jaw": ("closed", "dropped", "clenched"),
        },
        "audio": {
            "pitch": ("medium", "low", "high"),
            "pitch range": ("medium", "narrow", "wide"),
            "loudness": ("moderate", "soft", "loud"),
            "loudness range": ("medium", "narrow", "wide"),
            "rate": ("medium", "slow", "fast"),
            "pauses": ("usual", "few", "many"),
            "voice quality": ("ordinary", "breathy", "rough", "clear"),
            "steadiness": ("steady", "trembling"),
            "tone": ("dark", "bright"),
        },
    }
)
# Attributes whose first value is the state of rest. A voice is always steady or trembling, dark or
# bright.
RESTING = frozenset(
    {"brows", "eyes", "nose", "mouth", "jaw", "pitch", "pitch range", "loudness"}
    | {"loudness range", "rate", "pauses", "voice quality"}
)
# A value that stands for either of others: brows that are furrowed are lowered or drawn together.
EITHER: Mapping[tuple[str, str], frozenset[str]] = MappingProxyType(
    {("brows", "furrowed"): frozenset({"lowered", "drawn together"})}
)

# What is spoken of -> its part, a key of `STATES`.
_PARTS = {
    "brows": "brow brows eyebrow eyebrows forehead",
    "eyes": "eye eyes eyelid eyelids gaze stare",
    "nose": "nose nostrils",
    "mouth": "mouth lip lips",
    "corners": "corners mouth_corners lip_corners corners_of_the_mouth corners_of_the_lips "
    "corners_of_his_mouth corners_of_her_mouth corners_of_their_mouth corners_of_his_lips "
    "corners_of_her_lips corners_of_their_lips",
    "corner": "corner one_corner one_mouth_corner one_lip_corner mouth_corner corner_of_the_mouth "
    "corner_of_his_mouth corner_of_her_mouth one_corner_of_the_mouth one_corner_of_his_mouth "
    "one_corner_of_her_mouth one_side_of_the_mouth one_side_of_his_mouth one_side_of_her_mouth",
    "jaw": "jaw jaws chin",
    "teeth": "teeth",
    "face": "face faces features",
    "body": "body shoulders posture hands arms legs cheeks cheek head",
    "voice": "voice voices speech speaking speaks speak spoke talks talking utterance delivery "
    "words",
    "pitch": "pitch intonation",
    # "a wide range of emotions" is none of these.
    "pitch_range": "pitch_range range_of_pitch melody",
    "loudness": "loudness volume",
    "loudness_range": "loudness_range range_of_loudness",
    "pauses": "pause pauses pausing",
    "quality": "voice_quality quality_of_the_voice phonation",
    "rate": "rate pace tempo speed pacing",
    "tone": "tone tones timbre",
}
PARTS: Mapping[str, str] = MappingProxyType(
    {word: part for part, words in _PARTS.items() for word in words.split()}
)

_HIGH = (
    "raised lifted up high upward upwards upturned turned_up pulled_up curled_up curved_up "
    "lifts rises rise raises raising lifting"
)
_DOWN = (
    "down downward downwards downturned turned_down pulled_down drawn_down curved_down "
    "drooping droop droops lowered sagging sag depressed"
)
_TREMBLING = (
    "trembling trembles tremble trembled tremor tremors shaky shaking shakes shake "
    "quivering quivers quiver quavering quaver quavers unsteady wavering wavers waver tremulous "
    "cracks cracking breaks breaking broken"
)
_STEADY = "steady stable firm steadily"
_SOFT = (
    "soft quiet softly quietly hushed faint gentle gently weak lowered lowers low_volume "
    "barely_audible whispered whispering"
)
_LOUD = "loud loudly louder raised raises raising booming loudness_high shouted shouting yelling"
_SLOW = "slow slowly slower unhurried drawn_out sluggish"
_FAST = "fast faster rapid rapidly quick quickly hurried rushed hasty hastily"
_LOW = "low deep lower low_pitched deep_pitched"
_SHRILL = "high higher high_pitched shrill"
_DARK = "dark dull muffled darker"
_BRIGHT = "bright brighter light"
_BREATHY = "breathy airy breathier"
_ROUGH = "rough hoarse raspy harsh gravelly rougher"
_CLEAR = "clear clearer"
_MONOTONOUS = "monotone monotonous flat"
_WIDE = "wide large wider larger"
_NARROW = "narrow small narrower smaller"

# part -> (attribute, value) -> words that say so of this part.
_STATES: dict[str, dict[tuple[str, str], str]] = {
    "brows": {
        ("brows", "raised"): f"{_HIGH} arched elevated raise",
        ("brows", "lowered"): "lowered low down pulled_down lowers lowering",
        ("brows", "drawn together"): "drawn_together knitted knit knitting pulled_together "
        "brought_together pinched pinched_together squeezed_together knitted_together "
        "drawn_in drawn_inward draws_together",
        ("brows", "furrowed"): "furrowed furrow furrows furrowing wrinkled creased knotted "
        "contracted crease creases frowning",
        ("brows", "relaxed"): "relaxed smooth",
    },
    "eyes": {
        ("eyes", "wide"): "wide widened widen widens widening wide_open opened_wide open_wide "
        "bulging enlarged widely_open",
        ("eyes", "narrowed"): "narrowed narrow narrows narrowing squinted squinting squint squints",
        ("eyes", "half closed"): "half_closed half_shut half_open drooping droopy droop heavy "
        "heavy_lidded lidded hooded half_lidded",
        ("eyes", "tearful"): "tearful teary watery moist wet glistening glisten welling "
        "full_of_tears filled_with_tears brimming",
        ("eyes", "relaxed"): "relaxed",
    },
    "nose": {
        ("nose", "wrinkled"): "wrinkled wrinkles wrinkling wrinkle scrunched scrunches crinkled "
        "crinkles scrunched_up wrinkled_up",
        ("nose", "relaxed"): "relaxed",
    },
    "mouth": {
        ("mouth", "corners up"): "upturned turned_up curved_up curled_up smiling",
        ("mouth", "corners down"): "downturned turned_down curved_down drooping turned_downward",
        ("mouth", "pressed"): "pressed pressed_together tightened pursed compressed tight "
        "tightly_closed presses presses_together purses pursing pressing tightly_pressed",
        ("mouth", "stretched"): "stretched stretched_wide pulled_back drawn_back stretches "
        "stretching stretched_sideways",
        ("jaw", "dropped"): "open opened wide_open agape gaping ajar opens falls_open open_wide "
        "hangs_open hanging_open",
        ("mouth", "relaxed"): "relaxed",
    },
    "corners": {("mouth", "corners up"): _HIGH, ("mouth", "corners down"): _DOWN},
    "corner": {("mouth", "one corner up"): _HIGH},
    "jaw": {
        ("jaw", "dropped"): "dropped drops drop open slack hanging falls fallen hangs_open",
        ("jaw", "clenched"): "clenched tight set tense clenches clenching tightened",
        ("jaw", "closed"): "closed shut",
    },
    "teeth": {
        ("jaw", "clenched"): "clenched gritted grits gritting clenches",
        ("mouth", "stretched"): "bared bares baring",
    },
    "face": {("face", "relaxed"): "relaxed"},
    "body": {},
    "voice": {
        ("pitch", "low"): _LOW,
        ("pitch", "high"): _SHRILL,
        ("loudness", "soft"): _SOFT,
        ("loudness", "loud"): _LOUD,
        ("rate", "slow"): _SLOW,
        ("rate", "fast"): _FAST,
        ("steadiness", "steady"): _STEADY,
        ("steadiness", "trembling"): _TREMBLING,
        ("tone", "dark"): _DARK,
        ("tone", "bright"): _BRIGHT,
        ("pitch range", "narrow"): _MONOTONOUS,
        ("voice quality", "breathy"): _BREATHY,
        ("voice quality", "rough"): _ROUGH,
        ("voice quality", "clear"): _CLEAR,
        ("pauses", "many"): "halting haltingly",
    },
    "pitch": {
        ("pitch", "low"): f"{_LOW} lowered drops falls",
        ("pitch", "high"): f"{_SHRILL} raised elevated rises rising up",
        ("pitch", "medium"): "medium",
        ("pitch range", "narrow"): _MONOTONOUS,
        ("pitch range", "wide"): "varied lively",
    },
    "pitch_range": {
        ("pitch range", "narrow"): f"{_NARROW} {_MONOTONOUS}",
        ("pitch range", "wide"): f"{_WIDE} varied lively",
        ("pitch range", "medium"): "medium moderate",
    },
    "loudness": {
        ("loudness", "soft"): f"{_SOFT} low lower down",
        ("loudness", "loud"): f"{_LOUD} high higher up increased rises",
        ("loudness", "moderate"): "moderate medium",
        ("loudness range", "narrow"): "even constant",
        ("loudness range", "wide"): "varied uneven",
    },
    "loudness_range": {
        ("loudness range", "narrow"): _NARROW,
        ("loudness range", "wide"): _WIDE,
        ("loudness range", "medium"): "medium moderate",
    },
    "rate": {
        ("rate", "slow"): _SLOW,
        ("rate", "fast"): f"{_FAST} high increased",
        ("rate", "medium"): "medium moderate",
    },
    "pauses": {
        ("pauses", "few"): "few fewer short rare",
        ("pauses", "many"): "many long longer frequent often frequently",
        ("pauses", "usual"): "usual moderate",
    },
    "quality": {
        ("voice quality", "breathy"): _BREATHY,
        ("voice quality", "rough"): _ROUGH,
        ("voice quality", "clear"): _CLEAR,
        ("voice quality", "ordinary"): "ordinary",
    },
}
_STATES["tone"] = _STATES["voice"]
# part -> word -> (attribute, value).
STATES: Mapping[str, Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        part: {word: cue for cue, words in states.items() for word in words.split()}
        for part, states in _STATES.items()
    }
)

# Words that name their part themselves.
_WHOLE: dict[tuple[str, str], str] = {
    ("mouth", "corners up"): "smile smiles smiled smiling grin grins grinned grinning beaming "
    "beams",
    ("mouth", "one corner up"): "smirk smirks smirked smirking crooked_smile lopsided_smile "
    "one_sided_smile sneer sneers sneering",
    ("brows", "furrowed"): "frown frowns frowned frowning scowl scowls scowled scowling "
    "scrunched_brow",
    ("eyes", "wide"): "wide_eyed",
    ("eyes", "tearful"): "tears tear teary_eyed weeping weeps sobbing sobs",
    ("jaw", "dropped"): "open_mouthed slack_jawed gapes gaping",
    ("mouth", "pressed"): "tight_lipped",
    ("pitch", "high"): "high_pitched",
    ("pitch", "low"): "low_pitched",
    ("loudness", "soft"): "whisper whispers whispered whispering murmur murmurs murmured "
    "murmuring mutter mutters muttered muttering mumbles mumbling",
    ("loudness", "loud"): "shout shouts shouted shouting yell yells yelled yelling scream screams "
    "screamed screaming",
    ("rate", "fast"): "fast_paced",
    ("rate", "slow"): "slow_paced",
}
WHOLE: Mapping[str, tuple[str, str]] = MappingProxyType(
    {word: cue for cue, words in _WHOLE.items() for word in words.split()}
)
