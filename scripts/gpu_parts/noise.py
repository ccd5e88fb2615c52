"""A model of random weights and clips of noise: what a machine without data or decoders trains on.

Speed and memory depend on sizes alone, and a check of the machine needs no meaning. `r1omni.data`
imports av, so that it must be installed although nothing is decoded.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "src"))

import torch  # noqa: E402
from torch.utils.data import DataLoader, Dataset  # noqa: E402

from r1omni.data import DatasetSpec, EmotionDataModule  # noqa: E402
from r1omni.data.batch import Batch, collate  # noqa: E402
from r1omni.data.loader_config import LoaderConfig  # noqa: E402
from r1omni.models.config import OmniConfig, read_config, read_json  # noqa: E402
from r1omni.models.folders import find_model_folder  # noqa: E402
from r1omni.models.fresh import create_model  # noqa: E402
from r1omni.models.omni import OmniModel  # noqa: E402
from r1omni.models.saving import save_model  # noqa: E402
from r1omni.models.sizes import read_sizes, write_settings  # noqa: E402
from r1omni.text.prompt import R1OMNI_INSTRUCTION  # noqa: E402
from r1omni.types import Clip, ClipMedia, Sample  # noqa: E402

SIZES = {
    "mini": ROOT / "configs" / "mini" / "model.yaml",
    "middle": ROOT / "scripts" / "step_parts" / "middle.yaml",
    "0.5b": ROOT / "configs" / "r1omni_0.5b" / "model.yaml",
}
TARGET = (
    "<think>The corners of the mouth are raised and the voice is bright and quick, so that the "
    "words sound like a laugh held back; nothing in the picture says otherwise.</think>\n"
    "<answer>happy</answer>"
)
LABELS = ("happy", "angry", "sad", "neutral")


def model_folder(size: str, out: Path, device: str) -> Path:
    """A model folder of a size of `SIZES`, in bfloat16 where the device is a GPU; made once."""
    if (out / "config.json").exists():
        return out
    small = out.with_name("tokenizers")
    shutil.rmtree(small, ignore_errors=True)
    create_model(SIZES["mini"], [TARGET], small, seed=0)
    if size == "mini":
        small.rename(out)
        return out
    sizes = read_sizes(SIZES[size])
    ends = {key: read_json(small / "config.json")[key] for key in ("bos_token_id", "eos_token_id")}
    scratch = out.with_name("settings")
    towers = write_settings(sizes, scratch, sizes["language"]["vocab_size"], released=ends)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(small / file, scratch / file)
    texts = find_model_folder(small).text_tower
    for file in ("vocab.txt", "tokenizer_config.json"):
        shutil.copy(texts / file, towers["text"] / file)
    torch.manual_seed(0)
    with torch.device(device):
        model = OmniModel(read_config(scratch, towers["vision"], towers["audio"], towers["text"]))
    save_model(model.to(torch.bfloat16), find_model_folder(scratch), out)
    return out


def noise(config: OmniConfig, seed: int) -> ClipMedia:
    """Frames and a spectrogram of random numbers, of the sizes that a model reads."""
    generator = torch.Generator().manual_seed(seed)
    media, audio = config.media, config.audio
    shape = (media.num_frames, 3, media.image_size, media.image_size)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    mel = torch.randn(audio.num_mel_bins, 2 * audio.max_source_positions, generator=generator)
    return ClipMedia(frames, mel)


def samples(count: int) -> list[Sample]:
    """Labelled samples with a target; their clips lie nowhere."""
    return [
        Sample(
            sample_id=f"noise/{index}",
            clip=Clip(Path(f"noise_{index}.mp4")),
            instruction=R1OMNI_INSTRUCTION,
            label=LABELS[index % len(LABELS)],
            target=TARGET,
            dataset="noise",
            label_set="mafw",
        )
        for index in range(count)
    ]


class _Noise(Dataset[tuple[Sample, ClipMedia]]):
    def __init__(self, given: list[Sample], config: OmniConfig) -> None:
        self.given, self.config = given, config

    def __len__(self) -> int:
        return len(self.given)

    def __getitem__(self, index: int) -> tuple[Sample, ClipMedia]:
        return self.given[index], noise(self.config, index)


class NoiseData(EmotionDataModule):
    """The data module of the project with clips that are made instead of read.

    Args:
        config: of the model that reads them.
        batch_size: prompts in a batch.
        num_batches: of an epoch.
    """

    def __init__(self, config: OmniConfig, batch_size: int, num_batches: int) -> None:
        loader = LoaderConfig(batch_size=batch_size, cache_features=False)
        super().__init__(train=[DatasetSpec("mafw", "noise")], loader=loader)
        self.config, self.count = config, batch_size * num_batches

    def setup(self, stage: str) -> None:
        self.samples |= {"train": [samples(self.count)], "val": [], "expert": []}

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        return []

    def train_dataloader(self) -> DataLoader[Batch]:
        given = _Noise(self.samples["train"][0], self.config)
        return DataLoader(given, batch_size=self.loader.batch_size, collate_fn=collate)
