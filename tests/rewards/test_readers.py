"""One reader of answers: analyze, evaluation and rewards say the same of the same tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from adversarial_cases import CASES, LABEL, PURE, token_cases

from r1omni.data.batch import Batch
from r1omni.data.datamodule import EvaluationSet
from r1omni.models import answering, spans
from r1omni.models.sampler import Ended, NextPrompts, Sampled, read_prompts
from r1omni.rewards import RewardSpec
from r1omni.text.emotions import LABEL_SETS
from r1omni.training import GRPOConfig, SFTModule, advantages, evaluated, policy
from r1omni.training.advantages import score_rollout
from r1omni.training.evaluation import Evaluation
from r1omni.types import Analysis, Clip, ClipMedia, Sample

# What else a model may write: answers that only a lenient reader takes.
LOOSE = {
    "answer in other case": "<ANSWER>sad</ANSWER>",
    "answer among words": "I say <answer>sad</answer>!",
    "two answers": "<answer>sad</answer><answer>sad</answer>",
    "answer backwards": "</answer>sad<answer>",
    "word with a full stop": "Happy.",
    "bare alias": "worried",
    "bare sentence": "The man is happy",
}
TEXTS = {
    name: case.text
    for name, case in CASES.items()
    # No token stands for half a surrogate pair, and the end token ends what it stands in.
    if len(case.text) < 1_000 and not re.search("[\ud800-\udfff]|<.im_end.>", case.text)
} | LOOSE
REWARDS = [RewardSpec("accuracy"), RewardSpec("format")]
COUNTS = {"balanced_accuracy": {"class_counts": {LABEL: 1}}}
ALL_REWARDS = [RewardSpec(name, options=COUNTS.get(name, {})) for name in PURE]
LIMIT = 50
FRAMES = torch.full((8, 3, 64, 64), 128, dtype=torch.uint8)


@dataclass(frozen=True)
class Readings:
    """What the three say of the same completions."""

    analyses: list[Analysis]
    records: list[dict[str, Any]]
    rewards: list[list[float]]
    all_rewards: dict[str, list[float]]


@pytest.fixture(scope="module")
def trained(fixtures_dir: Path) -> SFTModule:
    return SFTModule(str(fixtures_dir / "humanomni_tiny" / "R1-Omni-tiny"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight grey frames: what takes the least time to decode."""
    path = tmp_path_factory.mktemp("clip") / "grey.mp4"
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=8)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        for picture in FRAMES:
            frame = av.VideoFrame.from_ndarray(picture.permute(1, 2, 0).numpy(), format="rgb24")
            container.mux(video.encode(frame))
        container.mux(video.encode())
    return path


@pytest.fixture
def read(trained: SFTModule, clip: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Reads rows of token ids as if the model had sampled them."""
    omni = trained.omni

    def sampled(rows: Sequence[list[int]]) -> Sampled:
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), int(omni.tokenizer.pad_token_id))
        mask = torch.zeros(ids.shape, dtype=torch.bool)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = torch.tensor(row)
            mask[index, : len(row)] = True
        return Sampled(ids, mask, torch.zeros(ids.shape))

    def readings(rows: Sequence[list[int]]) -> Readings:
        waiting = iter(rows)

        def each(model: Any, more: NextPrompts, *_: Any, **options: Any) -> Iterator[Ended]:
            prompts, _ = more(1)
            yield Ended([0], [list(next(waiting))], read_prompts(model, prompts))

        monkeypatch.setattr(spans, "generate_each", each)
        monkeypatch.setattr(answering, "emotion_scores", lambda *a, **k: [[{}]])
        analyses = [omni.analyze(clip, modality="video")[0] for _ in rows]

        for place in (evaluated, policy):
            monkeypatch.setattr(place, "generate", lambda *a, **k: sampled(rows))
        samples = [
            Sample(f"own/{index}", Clip(clip), "?", "video", label=LABEL, label_set="all",
                   target="<think>He smiles.</think><answer>happy</answer>")
            for index in range(len(rows))
        ]  # fmt: skip
        batch = Batch(tuple(samples), (ClipMedia(FRAMES, None),) * len(rows))
        trained.evaluation = Evaluation([EvaluationSet("own", "all", "full")])
        trained._evaluate(batch, 0)

        config = GRPOConfig(group_size=2, rewards=REWARDS, max_new_tokens=LIMIT)
        sampler = policy.Policy(omni, config)
        drawn = sampler.sample(trained.prompts(batch), range(len(samples)))
        rewards = score_rollout(drawn, samples, config).tolist()
        # Once for all of them: how sure the model is has tests of its own.
        monkeypatch.setattr(advantages, "direct_confidence", lambda *_: [{LABEL: 1.0}] * len(rows))
        known = replace(config, rewards=ALL_REWARDS)
        columns = score_rollout(drawn, samples, known, sampler).T.tolist()
        by_name = dict(zip(known.reward_names, columns, strict=True))
        return Readings(analyses, trained.evaluation.records(0), rewards, by_name)

    return readings


def check_agreement(found: Readings, names: Sequence[str]) -> None:
    """Analyze and evaluation say the same, and rewards pay for their strict half."""
    for name, analysis, record, (accuracy, form) in zip(
        names, found.analyses, found.records, found.rewards, strict=True
    ):
        assert analysis.label == record["prediction"], name
        assert analysis.format_ok == record["format_ok"] == bool(form), name
        assert (analysis.text, analysis.reasoning) == (record["text"], record["reasoning"]), name
        assert accuracy == float(record["format_ok"] and record["prediction"] == LABEL), name


def test_the_same_text_is_read_alike(trained: SFTModule, read: Any) -> None:
    encode, end = trained.omni.tokenizer.encode, trained.omni.end_ids[0]
    found = read([[*encode(text), end] for text in TEXTS.values()])
    check_agreement(found, list(TEXTS))
    by_name = dict(zip(TEXTS, found.records, strict=True))
    assert {n: (c.accuracy, c.format) for n, c in CASES.items() if n in TEXTS} == {
        n: tuple(map(int, rewards))
        for n, rewards in zip(TEXTS, found.rewards, strict=True)
        if n in CASES
    }
    # The answer counts in evaluation though the form is wrong.
    assert (by_name["no think"]["prediction"], by_name["no think"]["format_ok"]) == (LABEL, False)
    assert by_name["answer among words"]["prediction"] == "sad"
    assert {record["prediction"] for record in found.records} == {
        "angry", "anxiety", "happy", "sad", None
    }  # fmt: skip


def test_tokens_that_a_reader_cannot_see(trained: SFTModule, read: Any) -> None:
    omni = trained.omni
    size = omni.model.config.language.vocab_size
    cases = token_cases(omni.tokenizer, omni.end_ids, size)
    assert len(cases) >= 30
    found = read([list(case.ids) for case in cases.values()])
    check_agreement(found, list(cases))
    earned = dict(zip(cases, found.rewards, strict=True))
    assert earned == {name: [case.accuracy, case.format] for name, case in cases.items()}
    for reward, values in found.all_rewards.items():
        paid = {
            name for name, value in zip(cases, values, strict=True)
            if value > 0 and not cases[name].format
        }  # fmt: skip
        assert not paid, reward
    assert sum(max(values) > 0 for values in found.all_rewards.values()) > 4


def test_a_completion_that_was_cut_says_so(trained: SFTModule, read: Any) -> None:
    ids = trained.omni.tokenizer.encode("<think>x</think><answer>happy</answer>")
    found = read([ids, [*ids, trained.omni.end_ids[0]]])
    assert [record["ended"] for record in found.records] == [False, True]
    assert [record["prediction"] for record in found.records] == [LABEL, LABEL]
    assert found.rewards == [[0, 0], [1, 1]]


def test_analyze_knows_every_label(trained: SFTModule, read: Any) -> None:
    words = LABEL_SETS["all"].labels
    end = trained.omni.end_ids[0]
    found = read([[*trained.omni.tokenizer.encode(word), end] for word in words])
    assert [analysis.label for analysis in found.analyses] == list(words)
