"""Checks of a model folder: the recorded tiny one, and copies of it that are broken."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from r1omni.doctor import model as checked
from r1omni.doctor.checks import Finding
from r1omni.doctor.model import ModelRequest, check_model

WEIGHTS = "model.safetensors"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 2052740\n"
RUN = ("loading", "forward pass", "greedy step")


@pytest.fixture
def folder(fixtures_dir: Path, tmp_path: Path) -> Path:
    """A copy of the model folder with its towers beside it, free to be broken."""
    shutil.copytree(fixtures_dir / "humanomni_tiny", tmp_path / "tiny")
    return tmp_path / "tiny" / "R1-Omni-tiny"


def examined(folder: Path, **more: str) -> dict[str, Finding]:
    findings = list(check_model(ModelRequest(str(folder), **more)))
    assert len({finding.subject for finding in findings}) == len(findings)
    return {finding.subject: finding for finding in findings}


def only_failure(findings: dict[str, Finding]) -> Finding:
    (failed,) = [finding for finding in findings.values() if finding.status != "ok"]
    assert failed.status == "fails"
    assert failed.remedy
    return failed


def edit(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes))


def test_a_whole_model(fixtures_dir: Path) -> None:
    folder = fixtures_dir / "humanomni_tiny" / "R1-Omni-tiny"
    found = examined(folder)
    assert {finding.status for finding in found.values()} == {"ok"}
    assert "siglip-tiny-patch16-64, beside" in found["vision tower"].found
    assert "whisper-tiny, beside" in found["audio tower"].found
    assert "bert-tiny, beside" in found["text encoder"].found
    # Counted from the file: no tensor of the tiny model is shared.
    stored = sum(tensor.numel() for tensor in load_file(folder / WEIGHTS).values())
    assert f"{stored / 1e6:.2f} million in float32" in found["weights"].found
    assert "Qwen2 3 x 48" in found["architecture"].found
    assert "8 frames make 32 tokens" in found["architecture"].found
    assert "387 tokens" in found["tokenizers"].found
    assert "all logits finite" in found["forward pass"].found
    assert tuple(found)[-3:] == RUN


def test_where_towers_were_found(folder: Path) -> None:
    shutil.move(folder.parent / "whisper-tiny", folder / "whisper-tiny")
    other = folder.parent.parent / "bert"
    shutil.move(folder.parent / "bert-tiny", other)
    found = examined(folder, text_encoder=str(other))
    assert found["audio tower"].found == "whisper-tiny, inside the model folder"
    assert found["text encoder"].found == f"{other}, as given"
    elsewhere = folder.parent.parent / "siglip"
    shutil.move(folder.parent / "siglip-tiny-patch16-64", elsewhere)
    edit(folder, mm_vision_tower=str(elsewhere))
    found = examined(folder, text_encoder=str(other))
    assert found["vision tower"].found == f"{elsewhere}, as config.json names it"


def test_a_missing_tower(folder: Path) -> None:
    shutil.rmtree(folder.parent / "whisper-tiny")
    failed = only_failure(examined(folder))
    assert failed.subject == "model folder"
    assert "audio tower was not found" in failed.found and "whisper-tiny" in failed.found
    assert "audio_tower=" in failed.remedy


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def point(file: Path) -> None:
    file.write_bytes(POINTER)


@pytest.mark.parametrize(("damage", "remedy"), [(cut, "copy it again"), (point, "git lfs pull")])
def test_damaged_weights(damage: Callable[[Path], None], remedy: str, folder: Path) -> None:
    damage(folder / WEIGHTS)
    found = examined(folder)
    failed = only_failure(found)
    assert failed.subject == "weights"
    assert str(folder / WEIGHTS) in failed.found and remedy in failed.remedy
    assert found["architecture"].status == "ok"  # it needs the settings alone
    assert not set(found) & set(RUN)


def test_weights_of_a_tower_count_where_the_model_lacks_them(folder: Path) -> None:
    point(folder.parent / "whisper-tiny" / WEIGHTS)
    assert "audio tower weights" not in examined(folder)  # never read, so never a problem
    tensors = load_file(folder / WEIGHTS)
    kept = {n: t for n, t in tensors.items() if not n.startswith("model.audio_tower.")}
    save_file(kept, folder / WEIGHTS)
    found = examined(folder)
    assert only_failure(found).subject == "audio tower weights"
    assert not set(found) & set(RUN)


def test_how_weights_are_stored(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    half = {name: tensor.to(torch.bfloat16) for name, tensor in tensors.items()}
    save_file(half, folder / WEIGHTS)
    assert "million in bfloat16" in examined(folder)["weights"].found


def test_weights_of_another_size(folder: Path) -> None:
    edit(folder, hidden_size=96)
    failed = only_failure(examined(folder))
    assert failed.subject == "loading" and "of another shape" in failed.found


def test_settings_that_contradict_each_other(folder: Path) -> None:
    edit(folder.parent / "siglip-tiny-patch16-64", num_attention_heads=5)
    found = examined(folder)
    failed = only_failure(found)
    assert failed.subject == "architecture" and "no model can be built" in failed.found
    assert not set(found) & {*RUN, "tokenizers"}


def test_a_model_of_another_kind(folder: Path) -> None:
    edit(folder, model_type="llama")
    failed = only_failure(examined(folder))
    assert failed.subject == "architecture" and "'llama'" in failed.found


def test_tokenizers(folder: Path) -> None:
    shutil.rmtree(folder.parent / "bert-tiny")
    shutil.copytree(folder, folder.parent / "bert-tiny")  # hardly a BERT, but it has a config.json
    for name in ("vocab.json", "merges.txt", "tokenizer.json"):
        (folder / name).unlink()
    failed = [f for f in examined(folder).values() if f.status == "fails"]
    assert "tokenizers" in {finding.subject for finding in failed}


def test_more_tokens_than_embeddings(folder: Path) -> None:
    edit(folder, vocab_size=300)
    found = examined(folder)
    assert found["tokenizers"].status == "fails"
    assert "387 tokens, but 300 embeddings" in found["tokenizers"].found


def test_logits_that_are_not_finite(folder: Path) -> None:
    tensors = load_file(folder / WEIGHTS)
    tensors["model.norm.weight"][3] = torch.inf
    save_file(tensors, folder / WEIGHTS)
    found = examined(folder)
    failed = only_failure(found)
    assert failed.subject == "forward pass" and "not finite" in failed.found
    assert "greedy step" not in found


def test_a_model_that_memory_does_not_hold(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked, "read_memory", lambda: (10**9, 10**6))
    found = examined(folder)
    failed = only_failure(found)
    assert failed.subject == "loading" and "not tried" in failed.found
    assert "forward pass" not in found
    # float32 takes 4 bytes each of half a million numbers, bfloat16 takes 2.
    monkeypatch.setattr(checked, "read_memory", lambda: (10**9, 1_500_000))
    assert "not tried" in only_failure(examined(folder)).found
    assert examined(folder, dtype="bfloat16")["greedy step"].status == "ok"


def test_a_device_that_is_not_there(folder: Path) -> None:
    failed = only_failure(examined(folder, device="cuda:99"))
    assert failed.subject == "loading" and "cuda:99" in failed.found


def test_no_model_at_all(tmp_path: Path) -> None:
    found = examined(tmp_path / "nowhere")
    assert list(found) == ["model folder"]
    assert "nowhere" in only_failure(found).found
    assert list(examined(tmp_path)) == ["model folder"]
