"""What a reasoning says: the emotions that it names, and the media that it describes.

Written for English. A reasoning in another language names and describes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from r1omni.text.emotions import ALIASES
from r1omni.text.mentions import find_mentions


@dataclass(frozen=True)
class NamedEmotions:
    """Canonical emotions that a reasoning claims; those that it denies are left out.

    Attributes:
        all: those of the whole reasoning.
        concluded: those of the last sentence that claims any.
    """

    all: frozenset[str]
    concluded: frozenset[str]


def named_emotions(reasoning: str) -> NamedEmotions:
    """The emotions that a reasoning names, and those that it ends with.

    A reasoning looks at one cue after the other and says last what they come to, so its
    conclusion is what its last emotional sentence says. Counting words would not do: a cue may
    point elsewhere ("a smile, yet ..."), words of emotions describe faces ("the brows are
    relaxed"), and a majority can be had by repeating a word.
    """
    claimed = [mention for mention in find_mentions(reasoning, ALIASES) if not mention.denied]
    last = claimed[-1].sentence if claimed else -1
    return NamedEmotions(
        all=frozenset(mention.meaning for mention in claimed),
        concluded=frozenset(m.meaning for m in claimed if m.sentence == last),
    )


# Words that only an eye or only an ear can stand behind. Left out on purpose: "video", which the
# instruction itself uses for the clip; "expression", "look", "laugh", "cry" and "speak", which
# are seen and heard; "soft" and "bright", which light and sound can be; "hand", for "on the other
# hand".
_SIGHT = (
    "face faces facial eye eyes eyed gaze gazes gazing stare stares staring brow brows eyebrow "
    "eyebrows eyelid eyelids forehead nose nostril nostrils mouth mouths lip lips chin cheek "
    "cheeks jaw teeth frown frowns frowned frowning furrow furrows furrowed smile smiles smiled "
    "smiling grin grins grinned grinning smirk smirks smirked smirking grimace grimaces "
    "grimacing scowl scowls scowled scowling wink winks winking blink blinks blinking nod nods "
    "nodded nodding shrug shrugs shrugged shrugging gesture gestures gestured gesturing posture "
    "postures hands fist fists shoulders"
)
_HEARING = (
    "voice voices voiced vocal vocally tone tones toned intonation pitch pitched loud louder "
    "loudly loudness volume audio sound sounds sounded sounding hear hears heard hearing audible "
    "audibly speech prosody prosodic timbre cadence whisper whispers whispered whispering murmur "
    "murmurs murmured murmuring mutter mutters muttered muttering"
)
MEDIA_WORDS: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(_SIGHT.split(), "video"),
        **dict.fromkeys(_HEARING.split(), "audio"),
    }
)
# "No voice is heard" says that there is nothing to hear. "No smile" and "not loud" are
# observations all the same, so a denial counts for these words alone.
_MEDIA_THEMSELVES = frozenset(
    "face faces audio sound sounds voice voices speech hear hears heard hearing audible".split()
)


def described_media(reasoning: str) -> frozenset[str]:
    """Which of "video" and "audio" a reasoning describes, by its words of sight and of hearing.

    A medium that is only said to be missing is not described.
    """
    return frozenset(
        mention.meaning
        for mention in find_mentions(reasoning, MEDIA_WORDS)
        if not (mention.denied and mention.word in _MEDIA_THEMSELVES)
    )
