"""What a reasoning says: the emotions that it names, what it concludes, which media it describes.

Written for English. A reasoning in another language names and describes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from r1omni.text.cues import MEDIA, NamedCues, is_state_of_part
from r1omni.text.emotions import ALIASES, LABEL_SETS, LabelSet
from r1omni.text.mentions import (
    CLAUSE_ENDS,
    COMMAS,
    SENTENCE_ENDS,
    Mention,
    asked_sentences,
    find_mentions,
    list_goes_on,
    mentions_among,
    tokenize,
)

Verdict = Literal["supported", "contradicted", "silent"]
# A reasoning that names more emotions, in its conclusion or in all, would support any answer.
MAX_CONCLUDED = 3
MAX_NAMED = 6


@dataclass(frozen=True)
class NamedEmotions:
    """Canonical emotions that a reasoning claims; those that it denies are left out.

    Attributes:
        all: those of the whole reasoning.
        concluded: those that it comes to.
    """

    all: frozenset[str]
    concluded: frozenset[str]


# A sentence with one of these says what all cues come to, wherever it stands.
_CONCLUDING = frozenset(
    "overall therefore thus hence conclusion conclude concludes concluded concluding altogether "
    "summary ultimately final dominant predominant primary main answer".split()
)
_CONCLUDING_PAIRS = frozenset({("taken", "together"), ("together", "they"), ("together", "these"),
                               ("together", "this"), ("all", "in"), ("most", "likely"),
                               ("in", "sum"), ("sum", "up"), ("things", "considered"),
                               ("the", "whole"), ("emotion", "is"), ("emotion", "that"),
                               ("most", "plausible")})  # fmt: skip
# What comes after outweighs what came before: "looks happy, but is sad".
_TURNS = frozenset(
    "but yet however nevertheless nonetheless then ultimately finally eventually instead "
    "underneath".split()
)
_TURN_PAIRS = frozenset({("turns", "into"), ("turned", "into"), ("turning", "into"),
                         ("gives", "way"), ("gave", "way"), ("giving", "way")})  # fmt: skip
# After an emotion: it outweighs all others of its sentence.
_PREVAILING = frozenset("prevails prevail dominates fits wins".split())
# What they open is outweighed by the rest of the sentence: "although she smiles happily, ...".
_CONCESSIONS = frozenset(
    "although though while whereas whilst despite albeit notwithstanding outwardly "
    "seemingly".split()
)
_CONCESSION_PAIRS = frozenset({("in", "spite"), ("even", "if"), ("regardless", "of"),
                               ("at", "first")})  # fmt: skip
# "..., whereas he is calm" and "..., while in truth he is sad" turn instead.
_TURNING = frozenset({("in", "truth"), ("in", "fact"), ("in", "reality")})
# Before "of anger", and after "anger is": outweighed by any other emotion of the sentence.
_FAINT = frozenset("hint trace touch undertone possible possibly conceivable".split())
# Of a part of the face they say how it is held, not what is felt.
_HELD = frozenset("relaxed depressed tearful".split())
# Of the face or the voice they may be how it is held: outweighed by any other emotion.
_OUTWARD = frozenset("calm composed neutral".split())
# Adverbs of the writer, no claims about the person.
_NO_CLAIMS = frozenset("surprisingly disappointingly amusingly".split())
_SPEAKING = (
    r"(?:sa(?:y|ys|id|ying)|shout\w*|yell\w*|scream\w*|whisper\w*|cr(?:ies|ied)|ask\w*"
    r"|reads?|words?|subtitles?|line|repeat\w*|repl(?:ies|ied)|murmur\w*|mutter\w*|exclaim\w*)"
)
_QUOTE = re.compile(rf'(\b{_SPEAKING}[,:]? ?)?"([^"\n]{{0,400}})"')
# A quotation of more words is what someone says; one of fewer may be the word for the emotion.
_LONGEST_TERM = 2


def named_emotions(reasoning: str, aliases: Mapping[str, str] = ALIASES) -> NamedEmotions:
    """The emotions that a reasoning names, and those that it ends with.

    A reasoning looks at one cue after the other and says last what they come to, so its
    conclusion is what its last emotional sentence says, or the last one that says so ("overall",
    "therefore", "together they ..."). Counting words would not do: a cue may point elsewhere ("a
    smile, yet ..."), words of emotions describe faces ("the brows are relaxed"), and a majority
    can be had by repeating a word. Within that sentence a clause that is outweighed does not
    count ("although the voice suggests anger, ..."). Questions and what a person is quoted to say
    claim nothing.

    Args:
        reasoning: what stands before the answer.
        aliases: word -> emotion; those of a `LabelSet` where it has further classes.
    """
    tokens = tokenize(_without_speech(reasoning), aliases)
    claimed = _claimed(tokens, aliases)
    if not claimed:
        return NamedEmotions(frozenset(), frozenset())
    final = _concluding_sentences(tokens)
    chosen = max((m.sentence for m in claimed if m.sentence in final), default=None)
    last = claimed[-1].sentence if chosen is None else chosen
    return NamedEmotions(
        all=frozenset(mention.meaning for mention in claimed),
        concluded=_outweighing(tokens, [m for m in claimed if m.sentence == last], aliases),
    )


def verdict(
    reasoning: str,
    emotion: str | None,
    labels: LabelSet = LABEL_SETS["all"],
    max_concluded: int = MAX_CONCLUDED,
    max_named: int = MAX_NAMED,
) -> Verdict:
    """Whether a reasoning concludes with the answered emotion, with another, or with none.

    Args:
        reasoning: what stands before the answer.
        emotion: canonical emotion of the answer; None for an answer that is none, which a
            conclusion can only contradict.
        labels: the label set in force: which words name an emotion, and what counts as another.
        max_concluded, max_named: a reasoning that concludes with more emotions, or claims more in
            all, decides nothing: it is silent.
    """
    named, merges = named_emotions(reasoning, labels.aliases), labels.merges
    if len(named.concluded) > max_concluded or len(named.all) > max_named or not named.concluded:
        return "silent"
    if emotion is None:
        return "contradicted"
    concluded = {merges.get(other, other) for other in named.concluded}
    return "supported" if merges.get(emotion, emotion) in concluded else "contradicted"


def _without_speech(text: str) -> str:
    """The text without what it quotes someone to say; a quoted term stays."""
    text = text.replace("\u201c", '"').replace("\u201d", '"')

    def kept(match: re.Match[str]) -> str:
        spoken, words = match[1], match[2]
        if spoken or len(words.split()) > _LONGEST_TERM:
            return f"{spoken or ''} "
        return f" {words} "

    return _QUOTE.sub(kept, text)


def _claimed(tokens: Sequence[str], aliases: Mapping[str, str]) -> list[Mention]:
    """Emotions that the text says to be felt."""
    asked = asked_sentences(tokens)
    return [
        mention
        for mention in mentions_among(tokens, aliases)
        if not mention.denied
        and mention.sentence not in asked
        and mention.word not in _NO_CLAIMS
        and not (mention.word in _HELD and is_state_of_part(tokens, mention.index))
        and tokens[mention.index : mention.index + 2] != ["calm", "down"]
        and tokens[mention.index + 1 : mention.index + 2] != ["would"]  # what is only thought of
    ]


def _concluding_sentences(tokens: Sequence[str]) -> frozenset[int]:
    """Numbers of the sentences that say that they conclude."""
    found, sentence = set(), 0
    for index, token in enumerate(tokens):
        if token in SENTENCE_ENDS:
            sentence += 1
        elif token in _CONCLUDING or tuple(tokens[index : index + 2]) in _CONCLUDING_PAIRS:
            found.add(sentence)
    return frozenset(found)


def _outweighing(
    tokens: Sequence[str], claimed: Sequence[Mention], aliases: Mapping[str, str]
) -> frozenset[str]:
    """What the claims of one sentence come to, without those that others outweigh."""
    first, last = claimed[0].index, claimed[-1].index
    begin = first
    while begin > 0 and tokens[begin - 1] not in SENTENCE_ENDS:
        begin -= 1
    outweighed, turn, at = [False] * (last + 1), begin, begin
    while at < last:
        if _turns(tokens, at, begin):
            turn = at
        elif tokens[at] in _CONCESSIONS or tuple(tokens[at : at + 2]) in _CONCESSION_PAIRS:
            end = min(_end_of_concession(tokens, at, last, aliases), last + 1)
            outweighed[at:end] = [True] * (end - at)
            at = end
            continue
        at += 1
    prevailing = [m for m in claimed if _PREVAILING & set(tokens[m.index + 1 : m.index + 2])]
    if prevailing:
        return frozenset(mention.meaning for mention in prevailing)
    strong = [m for m in claimed if not (outweighed[m.index] or _is_faint(tokens, m.index))]
    # A turn that nothing firm follows turns nothing.
    kept = [m for m in strong if m.index >= turn] or strong
    kept = kept or [m for m in claimed if not outweighed[m.index]]
    return frozenset(mention.meaning for mention in kept or claimed)


def _turns(tokens: Sequence[str], at: int, begin: int) -> bool:
    """Whether what stands after `at` outweighs what stands before it in the sentence."""
    if tokens[at] in CLAUSE_ENDS or tuple(tokens[at : at + 2]) in _TURN_PAIRS:
        return tokens[at] not in "()"
    if tokens[at] in _TURNS:
        return not _adds(tokens, at)
    if tokens[at] == "whereas":
        return at > begin
    return tokens[at] in _CONCESSIONS and tuple(tokens[at + 1 : at + 3]) in _TURNING


def _is_faint(tokens: Sequence[str], index: int) -> bool:
    """Whether the emotion at `index` is only a hint, only possible, or said of the voice."""
    if tokens[index] in _OUTWARD and is_state_of_part(tokens, index):
        return True
    before, after = tokens[max(0, index - 3) : index], tokens[index + 1 : index + 3]
    return not _FAINT.isdisjoint(before) or ("is" in after and not _FAINT.isdisjoint(after))


def _adds(tokens: Sequence[str], at: int) -> bool:
    """Whether the "but" at `at` sets nothing against it: "nothing but", "not only ... but also"."""
    return tokens[at : at + 2] == ["but", "also"] or tokens[max(0, at - 1)] in ("nothing", "all")


def _end_of_concession(
    tokens: Sequence[str], at: int, last: int, aliases: Mapping[str, str]
) -> int:
    """Where the clause that `at` begins ends: a comma with a claim behind it, or its sentence."""
    listed = False
    for index in range(at + 1, len(tokens)):
        token = tokens[index]
        if token in SENTENCE_ENDS or token in CLAUSE_ENDS:
            return index
        # After "joy, fear and anger" a comma goes on with no list.
        listed = listed or token in ("and", "or")
        goes_on = not listed and list_goes_on(tokens, index, aliases)
        if token in COMMAS and index < last and not goes_on:
            return index
    return len(tokens)


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


def told_media(reasoning: str, named: NamedCues) -> tuple[str, ...]:
    """The media that a reasoning tells of: it describes them, or names a cue of theirs.

    Args:
        reasoning: what a model wrote before its answer.
        named: the cues that it names, as `read_cues` finds them.
    """
    described = described_media(reasoning)
    return tuple(medium for medium in MEDIA if medium in described or named.of(medium))
