"""What a text names of a face and of a voice: the mini-world's words, and those of people."""

from itertools import product

import pytest

from r1omni.text.cue_words import EITHER, PARTS, STATES, VALUES, WHOLE
from r1omni.text.cues import Cue, cue_spans, cue_truth, is_resting, read_cues
from r1omni.world.cues import FACE_VALUES, VOICE_VALUES, FaceCues, VoiceCues
from r1omni.world.describe import describe_both, observation, tagged_reasoning

FACES = [FaceCues(*words) for words in product(*FACE_VALUES.values())]
VOICES = [VoiceCues(*words) for words in product(*VOICE_VALUES.values())]


def shown(medium, cues, all_of_them):
    """The cues of a face or a voice, from its own words."""
    found = {Cue(medium, name, value) for name, value in vars(cues).items()}
    if all_of_them:
        return found
    telling = {cue for cue in found if not is_resting(cue)}
    return telling or {Cue("video", "face", "relaxed")}


def test_the_world_has_no_word_of_its_own():
    for medium, values in (("video", FACE_VALUES), ("audio", VOICE_VALUES)):
        for name, words in values.items():
            assert set(words) <= set(VALUES[medium][name])


@pytest.mark.parametrize("number", range(3))
def test_what_the_world_writes_is_read_exactly(number):
    """Every face and every voice, each in a list, as an observation and before an answer."""
    write = (describe_both, observation, lambda *both: tagged_reasoning(*both, "sad"))[number]
    for index in range(max(len(FACES), len(VOICES))):
        face, voice = FACES[index % len(FACES)], VOICES[index % len(VOICES)]
        found = read_cues(write(face, voice))
        media = [medium for medium, _, _ in cue_spans(write(face, voice))]
        assert [media.count(m) for m in ("video", "audio")] == [len(found.video), len(found.audio)]
        assert found.video == shown("video", face, write is describe_both)
        assert found.audio == shown("audio", voice, write is describe_both)


def test_the_tables_name_cues_that_there_are():
    known = {
        (name, value) for values in VALUES.values() for name in values for value in values[name]
    }
    for cue in (*WHOLE.values(), *(cue for words in STATES.values() for cue in words.values())):
        assert cue in known
    assert set(PARTS.values()) == set(STATES)
    assert {(name, value) for (name, _), values in EITHER.items() for value in values} <= known


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The brows are not raised, and the eyes are wide.", "eyes wide"),
        ("Her eyebrows never rise. No smile, no raised voice.", ""),
        ("Neither raised nor lowered brows, but narrowed eyes.", "eyes narrowed"),
        ("Are the brows raised? The voice is loud.", "loudness loud"),
        ("His furrowed brow and lowered voice", "brows furrowed, loudness soft"),
        ("She raised her voice and raised her eyebrows.", "loudness loud, brows raised"),
        ("a smile plays on his lips", "mouth corners up"),
        ("The corners of her mouth are turned down", "mouth corners down"),
        ("the lips, tightly pressed together", "mouth pressed"),
        ("a low and trembling voice", "pitch low, steadiness trembling"),
        ("There is a tremor in his voice.", "steadiness trembling"),
        ("wide-eyed, mouth agape", "eyes wide, jaw dropped"),
        ("He speaks quickly, in a high-pitched voice.", "rate fast, pitch high"),
        ("Her pitch rises, the volume is low, the pace is slow", "pitch high, loudness soft, "
         "rate slow"),
        ("Brows drawn tightly together", "brows drawn together"),
        ("He frowns and clenches his jaw.", "brows furrowed, jaw clenched"),
        ("tears well up in her half-closed eyes", "eyes tearful, eyes half closed"),
        ("His speech is monotonous, hoarse and rather slow.", "pitch range narrow, voice quality "
         "rough, rate slow"),
        ("She has a breathy and very quiet voice.", "voice quality breathy, loudness soft"),
        ("a wide pitch range and a clear voice", "pitch range wide, voice quality clear"),
        ("She makes few pauses; the loudness is uneven.", "pauses few, loudness range wide"),
        ("He talks haltingly, with long pauses.", "pauses many"),
        ("There are no long pauses, and the voice is not hoarse.", ""),
        ("a wide range of emotions, a clear picture, many people", ""),
        ("the mountains are high, the road is low", ""),
        ("Output the thinking process in <think> </think>", ""),
        ("眉毛上扬", ""),
    ],
)  # fmt: skip
def test_words_of_people(text, expected):
    found = read_cues(text)
    named = {f"{cue.attribute} {cue.value}" for cue in found.video | found.audio}
    assert named == {part for part in expected.split(", ") if part}


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("The brows are raised, and the voice is low, soft and not slow.",
         [("video", "raised"), ("audio", "low"), ("audio", "soft")]),
        ("brows are drawn tightly together; half-closed eyes",
         [("video", "drawn tightly together"), ("video", "half-closed")]),
        # Some characters are longer in lower case; places are those of the text as it was written.
        ("Straße İİ, “ʼN” 眉😀 – his brow’s Furrowed. WIDE eyes", [("video", "Furrowed"),
         ("video", "WIDE")]),
        ("Is the voice raised? The smile fades.", []),
    ],
)  # fmt: skip
def test_where_a_state_is_written(text, spans):
    assert [(medium, text[start:end]) for medium, start, end in cue_spans(text)] == spans


def video(*pairs):
    return [Cue("video", *pair.split(" ", 1)) for pair in pairs]


@pytest.mark.parametrize(
    ("named", "there", "counts"),
    [
        (["brows raised"], ["brows raised", "eyes wide"], (1, 1, 2)),
        (["brows raised", "eyes wide"], ["brows lowered"], (0, 2, 1)),
        ([], ["brows raised"], (0, 0, 1)),
        (["brows raised"], [], (0, 1, 0)),
        # one word for two states, and both words for one
        (["brows furrowed"], ["brows lowered"], (1, 1, 1)),
        (["brows lowered"], ["brows furrowed"], (1, 1, 1)),
        (["brows furrowed", "brows lowered"], ["brows lowered"], (1, 1, 1)),
        (["brows furrowed"], ["brows raised"], (0, 1, 1)),
        # rest: truly named it counts nowhere, falsely as a mistake, and it need not be named
        (["jaw closed"], ["jaw closed", "eyes wide"], (0, 0, 1)),
        (["jaw closed"], ["jaw dropped"], (0, 1, 1)),
        (["face relaxed"], ["jaw closed", "brows relaxed"], (1, 1, 1)),
        ([], ["jaw closed", "brows relaxed"], (0, 0, 1)),
        (["face relaxed"], ["jaw closed", "brows raised"], (0, 1, 1)),
    ],
)  # fmt: skip
def test_counts_by_hand(named, there, counts):
    truth = cue_truth(video(*named), video(*there))
    assert (truth.hits, truth.named, truth.there) == counts


def test_precision_recall_f1():
    truth = cue_truth(video("brows raised", "eyes wide"), video("brows raised", "jaw dropped"))
    assert (truth.precision, truth.recall, truth.f1) == (0.5, 0.5, 0.5)
    nothing = cue_truth([], [])
    assert (nothing.precision, nothing.recall, nothing.f1) == (None, None, None)
