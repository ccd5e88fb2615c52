"""A judge from a folder: a tiny chat model that was taught two answers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from r1omni.judging import Case, Judge, JudgeConfig
from r1omni.types import UsageError

MINI_MODEL = Path(__file__).parents[2] / "examples" / "mini-model"
CASES = [Case("so good", "x"), Case("so so so so bad", "x"), Case("bad", "x")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """After "good" it says 9, after "bad" 2."""
    path = tmp_path_factory.mktemp("local") / "judge"
    tokenizer = AutoTokenizer.from_pretrained(MINI_MODEL)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        )
    )  # fmt: skip
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    rows = [f"Grade: {'so ' * n}{word} {grade}{tokenizer.eos_token}" for n in range(5)
            for word, grade in (("good", 9), ("bad", 2))]  # fmt: skip
    batch = tokenizer(rows, return_tensors="pt", padding=True)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    for _ in range(60):
        loss = model(**batch, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def judge(folder: Path, cache: Path, **options: Any) -> Judge:
    settings: dict[str, Any] = {
        "template": "Grade: {reasoning}", "model": str(folder), "reply": "number",
        "cache": str(cache / "cache.sqlite"), "max_new_tokens": 4, "max_failed_ratio": 1.0,
    }  # fmt: skip
    return Judge(JudgeConfig(**(settings | options)))


def ask(judge: Judge) -> list[Any]:
    return asyncio.run(judge.judge(CASES))


@pytest.mark.parametrize("at_once", [1, 2, 8])
def test_grades_do_not_depend_on_the_batch(folder: Path, tmp_path: Path, at_once: int) -> None:
    found = ask(judge(folder, tmp_path, at_once=at_once))
    assert [one.score for one in found] == [0.9, 0.2, 0.2]


def test_grades_are_kept_while_the_folder_is_the_same(folder: Path, tmp_path: Path) -> None:
    ask(judge(folder, tmp_path))
    again = judge(folder, tmp_path)
    assert [one.score for one in ask(again)] == [0.9, 0.2, 0.2]
    assert again._local is None  # nothing had to be loaded
    (folder / "config.json").touch()
    anew = judge(folder, tmp_path)
    ask(anew)
    assert anew._local is not None


def test_a_reply_that_is_cut_is_no_grade(folder: Path, tmp_path: Path) -> None:
    for options in ({"max_new_tokens": 1}, {"batch_limit_s": 1e-6}):
        found = ask(judge(folder, tmp_path, **options))
        assert {(one.score, one.failed) for one in found} == {
            (None, "the reply was cut by max_new_tokens or batch_limit_s")
        }


def test_a_folder_that_is_no_judge_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no folder with a model"):
        judge(tmp_path / "none", tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"empty cannot be loaded") as caught:
        ask(judge(tmp_path / "empty", tmp_path))
    assert "\n" not in str(caught.value)
