"""Training samples that cannot be trained on are refused before anything is decoded."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from r1omni.data import DatasetSpec, EmotionDataModule
from r1omni.data.loader_config import LoaderConfig
from r1omni.rewards import RewardSpec, needs_labels, reward_names
from r1omni.training import GRPOConfig, GRPOModule, SFTModule, advantages, data_checks
from r1omni.training.advantages import reference_of, score_rollout
from r1omni.training.data_checks import check_targets
from r1omni.training.module import EmotionModule
from r1omni.types import Clip, PromptInputs, R1OmniError, Rollout, Sample, UsageError

# What a run says that has come as far as its clips, which are not there.
DECODES = "cannot be decoded"


@pytest.fixture(scope="session")
def model_dir(fixtures_dir: Path) -> str:
    return str(fixtures_dir / "humanomni_tiny" / "R1-Omni-tiny")


def fit(module: EmotionModule, root: Path, *rows: str) -> None:
    """Begin a run on rows of path, label and reasoning."""
    (root / "labels.csv").write_text(
        "path,label,reasoning\n" + "".join(f"{row}\n" for row in rows), encoding="utf-8"
    )
    spec = DatasetSpec("own", ".", split="all")
    loader = LoaderConfig(batch_size=1, decode_workers=0, cache_dir=str(root / "cache"))
    L.Trainer(
        max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=root / "run",
    ).fit(module, EmotionDataModule(root=str(root), train=[spec], loader=loader))  # fmt: skip


def grpo(*names: str, **weights: float) -> GRPOConfig:
    return GRPOConfig(rewards=[RewardSpec(name, weights.get(name, 1.0)) for name in names])


def test_rows_without_a_target(model_dir: str, tmp_path: Path) -> None:
    rows = ["a.mp4,happy,", "b.mp4,,", "c.mp4,,"]
    with pytest.raises(UsageError, match=r"2 of 3 .*b\.mp4 \(\S*labels\.csv, line 3\), own/c\.mp4"):
        fit(SFTModule(model_dir), tmp_path, *rows)
    with pytest.raises(R1OmniError, match=DECODES):
        fit(SFTModule(model_dir), tmp_path, rows[0])


def test_a_class_that_the_counts_of_a_reward_lack(model_dir: str, tmp_path: Path) -> None:
    """They stand in the configuration beside the data that they count."""
    rows = ["a.mp4,happy,", "b.mp4,sad,", "c.mp4,sad,"]
    counts = {"happy": 1, "angry": 5}
    wanted = r"class_counts of balanced_accuracy lacks sad; .* are \{happy: 1, sad: 2\}"
    for extra, message in (({}, wanted), ({"sadness": 2}, DECODES)):
        reward = RewardSpec("balanced_accuracy", options={"class_counts": counts | extra})
        module = GRPOModule(model_dir, grpo=GRPOConfig(rewards=[reward]))
        with pytest.raises(R1OmniError, match=message):
            fit(module, tmp_path, *rows)


def test_a_target_that_is_too_long(model_dir: str, tmp_path: Path) -> None:
    rows = ["a.mp4,happy,He smiles.", f"b.mp4,sad,{'she cries ' * 200}"]
    wanted = r"1 of 2 samples \(own/b\.mp4 \(\S*, line 3, [\d,]+ tokens\)\).* more than 300 tokens"
    with pytest.raises(UsageError, match=wanted):
        fit(SFTModule(model_dir, max_target_tokens=300), tmp_path, *rows)
    with pytest.raises(R1OmniError, match=DECODES):
        fit(SFTModule(model_dir), tmp_path, *rows)
    context = SFTModule(model_dir).model.config.language.max_position_embeddings
    rows[1] = f"b.mp4,sad,{'she cries ' * context}"
    with pytest.raises(UsageError, match=rf"own/b\.mp4 .* the {context:,} tokens that the model"):
        fit(SFTModule(model_dir, max_target_tokens=2**20), tmp_path, *rows)
    with pytest.raises(UsageError, match="max_target_tokens is 0"):
        SFTModule(model_dir, max_target_tokens=0)


def test_the_length_of_short_targets_is_not_counted(
    model_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thirty thousand rows are looked through without tokenizing them."""
    counted: list[str] = []

    def encode(tokenizer: Any, target: str) -> torch.Tensor:
        counted.append(target)
        return torch.zeros(1)

    monkeypatch.setattr(data_checks, "encode_target", encode)
    data = EmotionDataModule(train=[DatasetSpec("own", ".")])
    samples = [
        Sample(f"own/{i}", Clip(Path("a.mp4")), "Which?", target="He smiles. " * 150)
        for i in range(30_000)
    ]
    data.samples["train"] = [[*samples, replace(samples[0], target="x" * 2048)]]
    check_targets(data, SFTModule(model_dir).omni, 2048)
    assert counted == ["x" * 2048]  # with the end token it may be longer


@pytest.mark.parametrize("name", ["accuracy", "balanced_accuracy", "petal_f1"])
def test_no_label_at_all(model_dir: str, tmp_path: Path, name: str) -> None:
    options = {"class_counts": {"happy": 1, "sad": 1}} if name == "balanced_accuracy" else {}
    config = GRPOConfig(rewards=[RewardSpec(name, options=options), RewardSpec("format")])
    with pytest.raises(UsageError, match=rf"2 of 2 samples .*own/a\.mp4.* no label.* {name} needs"):
        fit(GRPOModule(model_dir, grpo=config), tmp_path, "a.mp4,,", "b.mp4,,")


@pytest.mark.parametrize(
    ("config", "rows", "warns"),
    [
        (grpo("format"), ["a.mp4,,"], False),
        (grpo("accuracy", "format", accuracy=0.0), ["a.mp4,,"], False),
        (grpo("accuracy", "format"), ["a.mp4,happy,"], False),
        (grpo("accuracy", "format"), ["a.mp4,happy,", "b.mp4,,"], True),
    ],
)
def test_labels_that_are_not_needed(
    model_dir: str, tmp_path: Path, config: GRPOConfig, rows: list[str], warns: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with pytest.raises(R1OmniError, match=DECODES):
        fit(GRPOModule(model_dir, grpo=config), tmp_path, *rows)
    assert ("1 of 2 samples (own/b.mp4" in caplog.text) == warns


def rollout(samples: list[Sample], group_size: int) -> Rollout:
    count = len(samples) * group_size
    return Rollout(
        prompts=PromptInputs((), (), ()),
        completion_ids=torch.ones(count, 2, dtype=torch.long),
        mask=torch.ones(count, 2, dtype=torch.bool),
        logps=torch.zeros(count, 2),
        texts=("<think>He smiles.</think>\n<answer>happy</answer>",) * count,
        group_size=group_size,
        end_ids=(1,),
        prompt_lengths=(3,) * len(samples),
    )


def sample(label: str | None) -> Sample:
    return Sample("own/a", Clip(Path("a.mp4")), "?", label=label, label_set="all")


@pytest.mark.parametrize(
    ("label", "target", "reference"),
    [
        ("happy", "<think>Brows raised.</think>\n<answer>happy</answer>", "Brows raised."),
        (None, "<think>Brows raised.</think>\n<answer>happy</answer>", "Brows raised."),
        (None, "Brows raised, jaw dropped; pitch high.", "Brows raised, jaw dropped; pitch high."),
        (None, "<think>Brows raised.</think>", None),  # a reasoning that was cut off is no caption
        (None, "amused, delighted", None),
        ("happy", "Brows raised: happy", None),
        ("happy", "happy", None),
        (None, None, None),
    ],
)
def test_what_is_a_reference(label: str | None, target: str | None, reference: str | None) -> None:
    assert reference_of(replace(sample(label), target=target)) == reference


def test_no_reference_at_all(
    model_dir: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = grpo("accuracy", "cue_recall")
    with pytest.raises(UsageError, match=r"no sample has a reasoning.*, which cue_recall needs"):
        fit(GRPOModule(model_dir, grpo=config), tmp_path, "a.mp4,happy,")
    truth = GRPOConfig(rewards=[RewardSpec("cue_recall", options={"against": "known_cues"})])
    with pytest.raises(UsageError, match=r"no sample has known cues .* which cue_recall needs"):
        fit(GRPOModule(model_dir, grpo=truth), tmp_path, "a.mp4,happy,He smiles.")
    (tmp_path / "cues.jsonl").write_text('{"path": "a.mp4", "face": {"brows": "raised"}}\n')
    with pytest.raises(R1OmniError, match=DECODES):
        fit(GRPOModule(model_dir, grpo=truth), tmp_path, "a.mp4,happy,")
    assert "cue_recall is paid by what clips are known to show" in caplog.text
    for rewards, row in (
        (config, "a.mp4,happy,He smiles."), (grpo("accuracy", "cue_recall", cue_recall=0.0),
                                              "a.mp4,happy,"),
    ):  # fmt: skip
        with pytest.raises(R1OmniError, match=DECODES):
            fit(GRPOModule(model_dir, grpo=rewards), tmp_path, row)


def test_rewards_that_need_labels_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(advantages, "direct_confidence", lambda *_: [{"happy": 1.0}])
    policy: Any = object()  # what it says of its confidence is above
    silent = set()
    for name in set(reward_names()) - {"judge"}:  # which needs what its template shows
        options = {"class_counts": {"happy": 1, "sad": 1}} if name == "balanced_accuracy" else {}
        config = GRPOConfig(rewards=[RewardSpec(name, options=options)], max_new_tokens=512)
        found = [
            score_rollout(rollout([sample(label)], 2), [sample(label)], config, policy)
            for label in ("happy", None)
        ]
        if found[1].isnan().all() and not found[0].isnan().any():
            silent.add(name)
    assert silent == {name for name in reward_names() if needs_labels(name)}
    assert silent


def test_a_rollout_without_any_reward_is_told(caplog: pytest.LogCaptureFixture) -> None:
    config = grpo("accuracy", "format", format=0.0)
    samples = [sample(None)] * 2
    with caplog.at_level(logging.WARNING):
        assert score_rollout(rollout(samples, 4), samples, config).shape == (8, 2)
    assert "no reward says anything of 8 completions (of own/a, own/a)" in caplog.text
    caplog.clear()
    score_rollout(rollout(samples, 4), [samples[0], sample("sad")], config)
    assert caplog.text == ""
