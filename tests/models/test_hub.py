"""Repositories of the hub, from a cache in its own layout and without a network."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from torch import Tensor

from r1omni import R1Omni
from r1omni.models.folders import find_model_folder
from r1omni.models.fresh import create_model
from r1omni.models.hub import is_hub_id
from r1omni.training import SFTModule
from r1omni.types import R1OmniError, UsageError

SIZES = Path(__file__).parents[1] / "golden" / "sizes.yaml"
RELEASE = "StarJiaxing/R1-Omni-0.5B"
PUBLIC = {
    "siglip-tiny-patch16-64": "google/siglip-base-patch16-224",
    "whisper-tiny": "openai/whisper-large-v3",
    "bert-tiny": "google-bert/bert-base-uncased",
}
Edit = Callable[..., None]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    folder = tmp_path / "hub"
    folder.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return folder


def commit_of(hub_id: str, ref: str = "main") -> str:
    return hashlib.sha1(f"{hub_id} {ref}".encode()).hexdigest()


def store(
    cache: Path, hub_id: str, source: Path, leave_out: tuple[str, ...] = (), ref: str = "main"
) -> Path:
    """Put a folder into the cache as the hub's client does; returns the snapshot."""
    repository = cache / f"models--{hub_id.replace('/', '--')}"
    revision = commit_of(hub_id, ref)
    snapshot = repository / "snapshots" / revision
    for folder in (repository / "blobs", repository / "refs", snapshot):
        folder.mkdir(parents=True, exist_ok=True)
    (repository / "refs" / ref).write_text(revision, encoding="utf-8")
    for file in source.iterdir():
        if file.name in leave_out:
            continue
        blob = hashlib.sha256(file.read_bytes()).hexdigest()
        shutil.copyfile(file, repository / "blobs" / blob)
        (snapshot / file.name).symlink_to(Path("../../blobs") / blob)
    return snapshot


@pytest.fixture
def released(cache: Path, copied: Path, edit_config: Edit) -> Path:
    """The tiny checkpoint under the name of the release, with its towers' public ids."""
    edit_config(
        copied,
        mm_vision_tower="/data/somebody/siglip-base-patch16-224",
        mm_audio_tower="/data/somebody/whisper-large-v3",
    )
    store(cache, RELEASE, copied)
    for name, hub_id in PUBLIC.items():
        store(cache, hub_id, copied.parent / name)
        (copied.parent / name).rename(cache.parent / f"stored-{name}")
    return copied


def test_a_release_by_its_id(
    released: Path, tiny: R1Omni, expected: dict[str, Tensor], cache: Path
) -> None:
    omni = R1Omni.from_pretrained(RELEASE)
    assert omni.folder.hub_ids == {
        "main": RELEASE,
        "vision_tower": "google/siglip-base-patch16-224",
        "audio_tower": "openai/whisper-large-v3",
        "text_tower": "google-bert/bert-base-uncased",
    }
    assert cache in omni.folder.main.parents
    inputs = tiny.prepare(
        video=expected["pixel_values_squash"], audio=expected["mel"], modality="video_audio"
    )
    assert torch.equal(omni.logits(inputs), tiny.logits(inputs))


def test_a_release_is_saved_with_the_names_of_its_towers(released: Path, tmp_path: Path) -> None:
    R1Omni.from_pretrained(RELEASE).save_pretrained(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text(encoding="utf-8"))
    assert config["mm_vision_tower"] == "siglip-base-patch16-224"
    found = R1Omni.from_pretrained(tmp_path / "saved").folder
    assert found.hub_ids == {}
    assert found.text_tower == tmp_path / "saved" / "bert-base-uncased"


def with_bias(copied: Path, value: float) -> Path:
    """The model folder with another bias in its gate."""
    tensors = load_file(copied / "model.safetensors")
    tensors["model.bert_gate.2.bias"] = torch.full((3,), value)
    save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    return copied


def test_a_revision_is_the_one_that_is_loaded(released: Path, cache: Path) -> None:
    store(cache, RELEASE, with_bias(released, 1.0), ref="v1")
    store(
        cache,
        "google/siglip-base-patch16-224",
        cache.parent / "stored-siglip-tiny-patch16-64",
        ref="v2",
    )
    by_name = {
        RELEASE: ("main", 0.0),
        f"{RELEASE}@main": ("main", 0.0),
        f"{RELEASE}@v1": ("v1", 1.0),
        f"{RELEASE}@{commit_of(RELEASE, 'v1')}": ("v1", 1.0),
    }
    for name, (ref, bias) in by_name.items():
        omni = R1Omni.from_pretrained(name)
        assert omni.folder.hub_ids["main"] == RELEASE
        assert omni.origin["main"] == f"{RELEASE}@{commit_of(RELEASE, ref)}"
        assert omni.model.gate[2].bias.tolist() == [bias] * 3
    tower = "google/siglip-base-patch16-224"
    omni = R1Omni.from_pretrained(f"{RELEASE}@v1", vision_tower=f"{tower}@v2")
    assert omni.origin == {
        "main": f"{RELEASE}@{commit_of(RELEASE, 'v1')}",
        "vision_tower": f"{tower}@{commit_of(tower, 'v2')}",
        "audio_tower": f"openai/whisper-large-v3@{commit_of('openai/whisper-large-v3')}",
        "text_tower": f"google-bert/bert-base-uncased@{commit_of('google-bert/bert-base-uncased')}",
    }


def test_settings_and_weights_are_of_one_commit(released: Path, cache: Path) -> None:
    folder = find_model_folder(RELEASE)
    # The repository moves on between the two.
    store(cache, RELEASE, with_bias(released, 1.0), ref="main2")
    refs = cache / f"models--{RELEASE.replace('/', '--')}" / "refs"
    (refs / "main").write_text(commit_of(RELEASE, "main2"), encoding="utf-8")
    assert find_model_folder(RELEASE).commits["main"] == commit_of(RELEASE, "main2")
    assert folder.with_weights("main").name == commit_of(RELEASE)


def test_a_revision_that_is_not_there(released: Path) -> None:
    message = refusal(f"{RELEASE}@v9")
    assert f"{RELEASE}@v9" in message and "not in the cache" in message


def test_a_folder_keeps_where_its_model_came_from(
    released: Path, tmp_path: Path, cache: Path
) -> None:
    omni = R1Omni.from_pretrained(RELEASE)
    omni.save_pretrained(tmp_path / "first")
    again = R1Omni.from_pretrained(tmp_path / "first")
    again.save_pretrained(tmp_path / "second")
    config = json.loads((tmp_path / "second" / "config.json").read_text(encoding="utf-8"))
    assert config["origin"] == omni.origin == again.origin and len(omni.origin) == 4
    # Training records the commit, not a name that moves on.
    assert SFTModule(RELEASE).init_from == f"{RELEASE}@{commit_of(RELEASE)}"


def test_a_model_that_was_never_on_the_hub(tiny: R1Omni, tmp_path: Path) -> None:
    tiny.save_pretrained(tmp_path / "saved")
    assert tiny.origin == {}
    assert "origin" not in json.loads((tmp_path / "saved" / "config.json").read_text())


def test_a_local_folder_with_towers_of_the_hub(released: Path) -> None:
    found = find_model_folder(released)
    assert found.main == released and "main" not in found.hub_ids
    assert found.hub_ids["audio_tower"] == "openai/whisper-large-v3"


def test_a_folder_beside_the_model_comes_before_the_hub(released: Path, tiny_dir: Path) -> None:
    beside = released.parent / "whisper-large-v3"
    shutil.copytree(tiny_dir / "whisper-tiny", beside)
    found = find_model_folder(released)
    assert found.audio_tower == beside and "audio_tower" not in found.hub_ids


def test_a_tower_given_by_its_id(cache: Path, copied: Path, tiny_dir: Path) -> None:
    snapshot = store(cache, "somebody/ears", tiny_dir / "whisper-tiny")
    found = find_model_folder(copied, audio_tower="somebody/ears")
    assert found.audio_tower == snapshot
    assert found.hub_ids == {"audio_tower": "somebody/ears"}


def test_a_tower_that_config_names_by_its_id(
    cache: Path, copied: Path, tiny_dir: Path, edit_config: Edit
) -> None:
    store(cache, "somebody/ears", tiny_dir / "whisper-tiny")
    edit_config(copied, mm_audio_tower="somebody/ears")
    assert find_model_folder(copied).hub_ids == {"audio_tower": "somebody/ears"}


def test_weights_of_a_tower_are_asked_for_only_when_the_main_file_lacks_them(
    cache: Path, copied: Path, tiny_dir: Path
) -> None:
    # The cached repository holds settings alone; the main file has the tower's weights.
    store(cache, "somebody/ears", tiny_dir / "whisper-tiny", leave_out=("model.safetensors",))
    R1Omni.from_pretrained(copied, audio_tower="somebody/ears")


def refusal(path: object, **arguments: object) -> str:
    with pytest.raises(R1OmniError) as caught:
        R1Omni.from_pretrained(path, **arguments)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_not_cached_and_no_network(cache: Path) -> None:
    message = refusal(RELEASE)
    assert RELEASE in message and "cannot be reached" in message and "local folder" in message


def test_no_server_answers(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not switched off, as above: the request is made and fails.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    message = refusal(RELEASE)
    assert RELEASE in message and "cannot be reached" in message


def test_a_tower_that_is_not_cached(released: Path, cache: Path) -> None:
    shutil.rmtree(cache / "models--openai--whisper-large-v3")
    message = refusal(RELEASE)
    assert "audio tower" in message and "openai/whisper-large-v3" in message
    assert "audio_tower=" in message


def test_a_release_whose_weights_are_not_cached(cache: Path, copied: Path) -> None:
    snapshot = store(cache, RELEASE, copied, leave_out=("model.safetensors",))
    for name in PUBLIC:
        shutil.copytree(copied.parent / name, snapshot.parent / name)
    message = refusal(RELEASE)
    assert str(snapshot) in message and "weights" in message


@pytest.mark.parametrize(
    "path",
    [
        "nowhere",
        "a/b/c",
        "/absolute/nowhere",
        "../nowhere",
        "a//b",
        "a/b@",
        "a@b",
        "a/b@c@d",
        "a/b@-c",
    ],
)
def test_what_is_neither_a_folder_nor_an_id(cache: Path, path: str) -> None:
    message = refusal(path)
    assert path in message and "owner/name" in message
    assert not is_hub_id(path)


def test_the_command_line_takes_an_id(released: Path, cache: Path, tiny_dir: Path) -> None:
    environment = os.environ | {
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "r1omni", "analyze", str(tiny_dir / "clip.mp4")]
    done = subprocess.run(
        [*command, "--model", RELEASE, "--max-new-tokens", "4"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["path"].endswith("clip.mp4")


def test_a_new_model_takes_a_tower_of_the_hub(cache: Path, tiny_dir: Path, tmp_path: Path) -> None:
    hub_id = "openai/whisper-tiny"
    snapshot = store(cache, hub_id, tiny_dir / "whisper-tiny")
    sizes = yaml.safe_load(SIZES.read_text(encoding="utf-8"))
    del sizes["audio"], sizes["omni"]["audio_tower"]
    (tmp_path / "sizes.yaml").write_text(yaml.safe_dump(sizes), encoding="utf-8")
    parts = {"audio": hub_id}
    create_model(tmp_path / "sizes.yaml", ["happy"], tmp_path / "out", 0, parts=parts)
    omni = R1Omni.from_pretrained(tmp_path / "out")
    pinned = f"{hub_id}@{commit_of(hub_id)}"
    assert omni.origin == {"audio_tower": pinned}
    digest = hashlib.sha256((snapshot / "model.safetensors").read_bytes()).hexdigest()
    recorded = omni.model.config.released["parts"]
    assert recorded == {"audio_tower": {"from": pinned, "sha256": digest}}
    assert omni.folder.audio_tower == tmp_path / "out" / "whisper-tiny"
    with pytest.raises(UsageError, match=r"--audio-tower openai/none: .* cannot be had from"):
        create_model(None, None, tmp_path / "no", 0, parts={"audio": "openai/none"})
