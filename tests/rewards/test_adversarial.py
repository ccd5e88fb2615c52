"""What completions earn that try to earn without deserving, and tag soup at random."""

import random
import re

import pytest
from adversarial_cases import ALL_WORDS, CASES, EVERY_CUE, EXPLANATIONS, LABEL, PURE, tagged

from r1omni.metrics import evaluate_explanations, explanation_fields
from r1omni.rewards import get_reward
from r1omni.text.cue_words import VALUES
from r1omni.text.cues import MEDIA, Cue, NamedCues, read_cues
from r1omni.text.emotions import LABEL_SETS
from r1omni.text.tags import parse_completion

# What the clip shows.
SEEN = "The mouth corners are up and the eyes narrowed. The voice is high, fast and bright."
# Every reward with what it needs besides completions and labels, and its range.
REWARDS = {
    "accuracy": ({}, 0, 1),
    "balanced_accuracy": ({"class_counts": {"happy": 1, "sad": 9}}, 0, 5),
    "consistency": ({}, 0, 1),
    "cue_precision": ({"references": [SEEN]}, 0, 1),
    "cue_recall": ({"references": [SEEN]}, 0, 1),
    "direct_calibration": (
        {"direct_confidence": [{"happy": 0.5, "sad": 0.4, "angry": 0.1}]},
        0,
        1,
    ),
    "format": ({}, 0, 1),
    "modality_use": ({"modality": ["video_audio"]}, 0, 1),
    "overlong": ({"completion_lengths": [90], "max_length": 100}, -1, 0),
    "repetition": ({}, -1, 0),
    "supported_accuracy": ({}, 0, 1),
    "petal_f1": ({}, 0, 1),
}


def earned(name, text):
    return get_reward(name)([text], [LABEL], **REWARDS[name][0])[0]


def test_there_are_enough():
    cheating = [case for case in CASES.values() if not case.accuracy]
    assert len(cheating) >= 60
    assert sum(not case.format for case in cheating) >= 60
    assert len({case.text for case in CASES.values()}) == len(CASES)
    assert any(len(case.text.split()) >= 10_000 for case in CASES.values())


@pytest.mark.parametrize("name", CASES)
def test_accuracy_and_format(name):
    case = CASES[name]
    assert earned("accuracy", case.text) == case.accuracy
    assert earned("format", case.text) == case.format


@pytest.mark.parametrize("reward", PURE)
def test_every_reward_stays_in_its_range(reward):
    _, low, high = REWARDS[reward]
    for name, case in CASES.items():
        value = earned(reward, case.text)
        assert value is None or low <= value <= high, name


# All but those that read no form and never pay.
OF_FORM = [name for name, (_, low, _) in REWARDS.items() if low == 0]


@pytest.mark.parametrize("reward", OF_FORM)
def test_a_malformed_completion_earns_nothing(reward):
    for name, case in CASES.items():
        if not case.format:
            assert earned(reward, case.text) == 0, name


@pytest.mark.parametrize("reward", PURE)
def test_no_reward_pays_for_a_completion_that_was_cut(reward):
    columns, _, _ = REWARDS[reward]
    text = "<think>The face smiles, the voice is bright; he is happy.</think><answer>happy</answer>"
    whole = get_reward(reward)([text], [LABEL], ended=[True], **columns)
    assert whole == get_reward(reward)([text], [LABEL], **columns)
    [cut] = get_reward(reward)([text], [LABEL], ended=[False], **columns)
    assert cut == 0 < whole[0] if whole[0] > 0 else cut <= 0


def test_balanced_accuracy_is_weighted_accuracy():
    for name, case in CASES.items():
        assert earned("balanced_accuracy", case.text) == 5 * case.accuracy, name


def test_the_other_rewards_see_what_accuracy_and_format_cannot():
    assert earned("consistency", CASES["reasoning names all"].text) == 0
    assert earned("consistency", CASES["reasoning says otherwise"].text) == 0
    assert earned("consistency", CASES["reasoning right, answer wrong"].text) == 0
    assert earned("modality_use", CASES["reasoning is a full stop"].text) == 0
    assert earned("repetition", CASES["10k words of reasoning"].text) < -0.99
    assert earned("petal_f1", CASES["all emotions"].text) < 0.05


# Explanations ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPLANATIONS)
def test_a_verdict_cannot_be_talked_into(name):
    """The metric's verdict, and the reward that is read the same way."""
    expected = EXPLANATIONS[name][1]
    text = CASES[name].text
    assert explanation_fields(text, LABEL_SETS["all"])["verdict"] == expected
    assert (earned("consistency", text) == 1) == (expected == "supported")


def test_naming_every_cue_costs_precision_and_naming_none_costs_recall():
    every = read_cues(EVERY_CUE)
    named = sum(len(values) for names in VALUES.values() for values in names.values())
    assert len(every.video) + len(every.audio) == named
    rng = random.Random(0)
    records = {"every": [], "none": [], "true": []}
    for _ in range(50):
        shown = [
            Cue(m, n, rng.choice(VALUES[m][n])) for m in MEDIA for n in VALUES[m] if n != "face"
        ]
        known = NamedCues.collect(shown)
        true = ", ".join(
            f"{'voice' if c.attribute == 'steadiness' else c.attribute} {c.value}" for c in shown
        )
        for name, text in (("every", EVERY_CUE), ("none", "He feels something."), ("true", true)):
            fields = explanation_fields(
                f"<think>{text}</think><answer>happy</answer>", LABEL_SETS["all"], known=known
            )
            records[name].append({"label": LABEL, "prediction": LABEL, "group": None, **fields})
    found = {
        name: evaluate_explanations(of, LABEL_SETS["all"].labels, num_bootstrap=0).cues
        for name, of in records.items()
    }
    for medium in MEDIA:
        assert found["every"][medium].recall == 1 and found["every"][medium].precision < 0.5
        assert found["none"][medium].recall == 0 and found["none"][medium].precision is None
        assert found["true"][medium].recall == found["true"][medium].precision == 1
        assert found["every"][medium].f1 < 0.6 < found["true"][medium].f1


# Rewards of the reasoning, and what an honest one earns. The others do not read it.
HONEST = tagged(LABEL, f"{SEEN} Together they suggest happiness.")
OF_REASONING = ("consistency", "cue_precision", "cue_recall", "modality_use", "repetition",
                "supported_accuracy")  # fmt: skip
BLIND = {"accuracy", "balanced_accuracy", "direct_calibration", "format", "overlong", "petal_f1"}
# Where one of them pays all the same, and so needs another beside it; consistency does wherever the
# verdict is "supported". One word of face is half of what modality_use asks for.
PAID = {
    "every cue": {"cue_recall": 1, "modality_use": 1},
    "every cue and another emotion": {"cue_recall": 1, "modality_use": 1},
    "a safe cue": {"cue_precision": 1, "modality_use": 0.5},
}


def test_every_reward_is_of_the_reasoning_or_blind_for_it():
    assert {*OF_REASONING, *BLIND} == {*PURE}
    for name in BLIND:
        assert len({earned(name, CASES[text].text) for text in EXPLANATIONS}) == 1
    for name in OF_REASONING:
        assert earned(name, HONEST) == (0 if name == "repetition" else 1)


@pytest.mark.parametrize("case", EXPLANATIONS)
def test_a_reasoning_that_is_no_evidence_earns_less_than_an_honest_one(case):
    values = {name: earned(name, CASES[case].text) or 0 for name in OF_REASONING}
    supported = float(EXPLANATIONS[case][1] == "supported")
    right = supported * earned("accuracy", CASES[case].text)
    known = PAID.get(case, {}) | {"consistency": supported, "supported_accuracy": right}
    for name, value in values.items():
        assert value == known[name] if name in known else value < 0.4, name
    assert sum(values.values()) <= sum(earned(name, HONEST) for name in OF_REASONING) - 1.5


@pytest.mark.parametrize("reward", PURE)
def test_no_special_token_and_no_end_pays(reward):
    """What decoding would leave out is shown to rewards, and a text may never end."""
    for text in (HONEST + "<|im_start|>", HONEST.replace("Together", "<|151700|> Together")):
        assert earned(reward, text) <= 0
    columns, _, _ = REWARDS[reward]
    endless = HONEST.replace("</think>", " and so on" * 2_000 + "</think>")
    for text in (HONEST, endless, endless.partition("</think>")[0]):
        assert get_reward(reward)([text], [LABEL], ended=[False], **columns)[0] <= 0


# Random tags -------------------------------------------------------------------------------------

TAGS = ("<think>", "</think>", "<answer>", "</answer>")
SPACE = (" ", "\n", "\u00a0")
WORDS = (*ALL_WORDS, "x", "he smiles", "1 < 2", "<b>", ">", "&lt;think&gt;", "高兴", "\u200b", "／")
NEARLY_TAGS = ("<Think>", "</THINK>", "< think>", "<think ", "</answer\n>", "<answer id=1>", "<an")


def is_well_formed(pieces):
    """The form read off the pieces instead of the text: an oracle that shares no code."""
    kinds = ["tag" if p in TAGS else "space" if p in SPACE else "word" for p in pieces]
    if [p for p, kind in zip(pieces, kinds, strict=True) if kind == "tag"] != list(TAGS):
        return False
    at = [pieces.index(tag) for tag in TAGS]
    outside = kinds[: at[0]] + kinds[at[1] + 1 : at[2]] + kinds[at[3] + 1 :]
    blocks = pieces[at[0] + 1 : at[1]], pieces[at[2] + 1 : at[3]]
    return "word" not in outside and all(
        any(p not in (*SPACE, "\u200b") for p in block) for block in blocks
    )


def mutated(rng):
    """A well-formed row of pieces with up to three of them dropped, doubled, moved or added."""
    pieces = ["<think>", *rng.choices(WORDS, k=3), "</think>", "<answer>", rng.choice(WORDS)]
    pieces.append("</answer>")
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(pieces))
        change = rng.randrange(4)
        if change == 0:
            pieces.insert(at, rng.choice((*TAGS, *SPACE, *WORDS)))
        elif change == 1:
            pieces.insert(rng.randrange(len(pieces)), pieces[at])
        elif len(pieces) > 1:
            piece = pieces.pop(at)
            if change == 2:
                pieces.insert(rng.randrange(len(pieces) + 1), piece)
    return pieces


def test_mutated_completions_agree_with_the_oracle():
    rng = random.Random(0)
    outcomes = []
    for _ in range(5_000):
        pieces = mutated(rng)
        text = "".join(pieces)
        assert earned("format", text) == is_well_formed(pieces), text
        outcomes.append(is_well_formed(pieces))
    assert 500 < sum(outcomes) < 4_500  # both outcomes are tried


def test_format_promises_what_parsing_gives():
    rng = random.Random(1)
    num_ok = 0
    for _ in range(5_000):
        pieces = mutated(rng)
        for _ in range(rng.randrange(2)):
            pieces.insert(rng.randrange(len(pieces)), rng.choice(NEARLY_TAGS))
        text = "".join(pieces)
        parsed = parse_completion(text)
        accuracy, form = earned("accuracy", text), earned("format", text)
        assert accuracy <= form
        assert form == parsed.format_ok
        if not form:
            assert (parsed.reasoning, parsed.answer) == ("", "")
            continue
        num_ok += 1
        assert len(re.findall(r"<\s*/?\s*(?:think|answer)\b", text, re.IGNORECASE)) == 4
        assert [text.count(tag) for tag in TAGS] == [1] * 4
        assert parsed.reasoning.strip() and parsed.answer.strip()
        rebuilt = f"<think>{parsed.reasoning}</think><answer>{parsed.answer}</answer>"
        assert re.sub(r"\s", "", rebuilt) == re.sub(r"\s", "", text)
    assert num_ok > 500
