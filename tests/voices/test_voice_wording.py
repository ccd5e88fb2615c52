"""Every text that can be written is read as the cues it was written from."""

import random
from itertools import product

import pytest

from r1omni.text.cue_words import VALUES
from r1omni.text.cues import Cue, read_cues
from r1omni.text.emotions import CLASSES, EVERY_CLASS
from r1omni.text.reasoning import named_emotions, verdict
from r1omni.text.tags import parse_completion, render_completion
from r1omni.voices import wording
from r1omni.voices.levels import HeardCue
from r1omni.voices.wording import describe_voice

HEARD = {
    name: [HeardCue(Cue("audio", name, value), very) for value in values for very in (False, True)]
    for name, values in VALUES["audio"].items()
    if name != "steadiness"
}


def reads(text, *cues):
    found = read_cues(text)
    assert found.audio == {Cue("audio", *cue) for cue in cues} and not found.video, text
    assert not named_emotions(text).all, text


def test_every_cue_that_is_measured_can_be_said():
    said = {cue.cue[1:] for cues in HEARD.values() for cue in cues}
    assert set(wording.CLAUSES) == said
    assert set(wording.ADJECTIVES) <= said
    assert set(wording.NOUNS) == set(CLASSES)


def test_every_clause_in_every_degree():
    words = ["", *(f"{word} " for word in {*wording.STRONG, *wording.MILD} - {""})]
    for cue, templates in wording.CLAUSES.items():
        for template, word in product(templates, words):
            reads(template.format(d=word, v="very " if word else "") + ".", cue)


def test_every_adjective_in_every_degree_and_list():
    words = ["", *(f"{word} " for word in {*wording.STRONG, *wording.MILD} - {""})]
    known = [(cue, word) for cue, several in wording.ADJECTIVES.items() for word in several]
    for (cue, adjective), (other, second) in product(known, repeat=2):
        reads(f"the voice is {adjective}.", cue)
        if cue[0] == other[0]:
            continue
        for index, template in enumerate(wording.LISTS):
            degree = words[(len(adjective) + 3 * len(second) + index) % len(words)]
            reads(template.format(list=f"{adjective} and {degree}{second}"), cue, other)


def test_every_pair_of_clauses():
    known = [
        (cue, template.format(d=f"{degree} ", v="very "))
        for number, (cue, templates) in enumerate(wording.CLAUSES.items())
        for degree in [(*wording.STRONG, "rather", "somewhat")[number % 5]]
        for template in templates
    ]
    for number, ((cue, one), (other, two)) in enumerate(product(known, repeat=2)):
        if cue[0] != other[0]:
            joint = wording.JOINTS[number % len(wording.JOINTS)]
            reads(f"{one}{joint}{two}.", cue, other)


def test_every_opener_rest_and_form_without_a_cue():
    openers = [opener for several in wording.OPENERS.values() for opener in several]
    for opener, form in product(openers, wording.UNREMARKABLE):
        reads(form.format(opener=opener, rest="the pace is moderate"), ("rate", "medium"))
    for opener, form in product(openers, wording.RESTS):
        rest = form.format(rest="the volume is moderate")
        reads(f"{opener}the voice is loud. {rest}", ("loudness", "loud"), ("loudness", "moderate"))


@pytest.mark.parametrize("label", [None, *CLASSES])
def test_whole_texts_say_what_is_there_and_conclude_with_the_label(label):
    rng = random.Random(f"whole {label}")
    texts = set()
    for _ in range(150):
        heard = [rng.choice(cues) for cues in HEARD.values() if rng.random() < 0.8] or [
            HEARD["pitch"][0]
        ]
        found = describe_voice(heard, rng.choices(["speaker_all", "population"], k=3), label, rng)
        texts.add(found.text)
        named = read_cues(found.text)
        assert named.audio == found.cues and not named.video, found.text
        there = {cue.cue for cue in heard}
        resting = {Cue("audio", n, VALUES["audio"][n][0]) for n in HEARD if n != "tone"}
        assert there - resting <= named.audio <= there, found.text
        completion = render_completion(found.text, label or "none")
        assert parse_completion(completion).reasoning == found.text
        if label is None:
            assert not named_emotions(found.text, EVERY_CLASS.aliases).all, found.text
        else:
            assert verdict(found.text, label, EVERY_CLASS) == "supported", found.text
    assert len(texts) > 140


def test_equal_seeds_give_equal_texts():
    heard = [cues[2] for cues in HEARD.values()]
    texts = [
        describe_voice(heard, ["population"], "sad", random.Random(seed)).text
        for seed in (1, 1, *range(2, 40))
    ]
    assert texts[0] == texts[1] and len(set(texts)) == 39
