"""What a linear classifier reads in the tower of real voices: one fold, beside the models' figures.

    python scripts/real_voices_probe.py --out outputs/real_voices --data data/RAVDESS \\
        --tower models/whisper-base --emodb data/EmoDB --folds 5 --fold 1

Logistic regression on the mean and the standard deviation over time of one layer's output, each
standardised on the training clips. Layer and C are those that are right most often on the
validation speakers; a tie goes to the lower layer, then to the smaller C. The chosen classifier, of
the training speakers alone, is then asked once about the fold's test speakers, and about Emo-DB.

Clips are decoded, turned into log-mel spectrograms and divided into speakers by the project's own
code, so that they are the models' clips. The averages of every clip are kept in OUT/cache/probe,
for all folds. Writes OUT/fold_K/probe.json: `layer`, `C`, `val` (layer -> C -> WAR), `predictions`
(set -> one record a clip, with the scores of all classes that were trained on).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from script_options import ScriptParser  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.pipeline import Pipeline, make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from torch import Tensor  # noqa: E402
from tqdm import tqdm  # noqa: E402
from transformers.models.whisper.modeling_whisper import WhisperEncoder  # noqa: E402

from r1omni.data import DatasetSpec, load_dataset  # noqa: E402
from r1omni.data.clip_cache import ClipCache  # noqa: E402
from r1omni.media.config import MediaConfig  # noqa: E402
from r1omni.media.processor import MediaProcessor  # noqa: E402
from r1omni.models.config import sound_settings  # noqa: E402
from r1omni.models.parts import Part, find_part  # noqa: E402
from r1omni.models.weights import Weights  # noqa: E402
from r1omni.types import Clip, R1OmniError, Sample, UsageError  # noqa: E402

CS = (0.001, 0.01, 0.1)
BATCH = 16
# Raise it where the same tower and clip give other averages.
VERSION = 1

Averages = NDArray[np.float32]


class Tower:
    """A Whisper encoder that gives the average of every layer's output over time.

    Args:
        folder: holds its weights and settings.
        cache: where the averages are kept.

    Raises:
        UsageError: no Whisper, or weights that do not fit its settings.
    """

    def __init__(self, folder: Path, cache: Path) -> None:
        part = find_part("audio", folder)
        self.origin = part.origin()["sha256"]
        self._processor = MediaProcessor(MediaConfig(**sound_settings(part.config, part.folder)))
        text = json.dumps([VERSION, self.origin, self._processor.fingerprint()])
        self._cache = ClipCache(cache, hashlib.sha256(text.encode()).hexdigest()[:32])
        self._part = part
        self._encoder: WhisperEncoder | None = None

    def averages(self, clips: Sequence[Clip]) -> Averages:
        """float32 [n, layers + 1, 2 D]: mean, then standard deviation, of the embedding and layers.

        Raises:
            R1OmniError: a clip cannot be read.
        """
        new = [clip for clip in clips if clip not in self._cache]
        with tqdm(total=len(new), desc="encoding for the probe", unit="clip") as bar:
            for first in range(0, len(new), BATCH):
                self._encode(new[first : first + BATCH])
                bar.update(len(new[first : first + BATCH]))
        return np.stack([self._kept(clip) for clip in clips])

    def _kept(self, clip: Clip) -> Averages:
        entry = self._cache.get(clip)
        if entry is None:  # it was there a moment ago
            raise R1OmniError(
                f"{self._cache.directory}: lost the entry of {clip.path}; run it again"
            )
        averages: Averages = entry[0]["averages"].numpy()
        return averages

    @torch.no_grad()
    def _encode(self, clips: Sequence[Clip]) -> None:
        if self._encoder is None:
            self._encoder = _load(self._part)
        mels = [self._processor.load(clip, "audio").mel for clip in clips]
        batch = torch.stack([mel for mel in mels if mel is not None])
        states = self._encoder(batch, output_hidden_states=True).hidden_states
        moments = [torch.cat([s.mean(dim=1), s.std(dim=1)], dim=1) for s in states]
        for clip, averages in zip(clips, torch.stack(moments, dim=1), strict=True):
            self._cache.put(clip, {"averages": averages}, {})


def _load(part: Part) -> WhisperEncoder:
    """The encoder of a whole Whisper, or of one without its decoder, in float32."""
    own: dict[str, Tensor] = {}
    for name, tensor in Weights(part.weights()):
        short = name.removeprefix("model.")
        if short.startswith("encoder."):
            own[short.removeprefix("encoder.")] = tensor.float()
    encoder = WhisperEncoder(part.config)
    try:
        encoder.load_state_dict(own)
    except RuntimeError as error:
        raise part.refuse(f"its weights do not fit its config.json ({error!s:.200})") from error
    return encoder.eval()


@dataclass(frozen=True)
class Choice:
    """The classifier that the validation speakers chose.

    Attributes:
        layer: 0 is the embedding.
        c: inverse strength of the regularisation.
        val: layer -> C -> share of the validation clips that are right.
        model: fitted on the training clips.
    """

    layer: int
    c: float
    val: dict[int, dict[float, float]]
    model: Pipeline


def choose(
    train: Averages, labels: Sequence[str], val: Averages, val_labels: Sequence[str]
) -> Choice:
    """Fit every layer and C on the training clips, and take the one that is best in validation.

    Args:
        train: [n, layers, 2 D].
        labels: n classes.
        val: [m, layers, 2 D].
        val_labels: m classes.
    """
    scores: dict[int, dict[float, float]] = {}
    best: tuple[float, int, float, Pipeline] | None = None
    for layer in range(train.shape[1]):
        for c in CS:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=5000))
            model.fit(train[:, layer], labels)
            share = float(model.score(val[:, layer], val_labels))
            scores.setdefault(layer, {})[c] = share
            if best is None or share > best[0]:
                best = share, layer, c, model
    assert best is not None
    return Choice(best[1], best[2], scores, best[3])


def records(choice: Choice, samples: Sequence[Sample], averages: Averages) -> list[dict[str, Any]]:
    """One record a clip: what is known of it, the answer and the scores of all classes."""
    shares = choice.model.predict_proba(averages[:, choice.layer])
    classes = [str(name) for name in choice.model.classes_]
    return [
        {
            "sample_id": sample.sample_id,
            "label": sample.label,
            "group": sample.group,
            "sex": sample.sex,
            "intensity": sample.intensity,
            "answer": classes[int(row.argmax())],
            "scores": dict(zip(classes, map(float, row), strict=True)),
        }
        for sample, row in zip(samples, shares, strict=True)
    ]


def probe(tower: Tower, data: Path, emodb: Path | None, folds: int, fold: int) -> dict[str, Any]:
    """What probe.json holds of one fold.

    Args:
        tower: encodes the clips.
        data: RAVDESS.
        emodb: Emo-DB, or None.
        folds: how many there are.
        fold: whose speakers are tested, from 1.
    """
    start = time.monotonic()
    options = {"folds": folds, "fold": fold, "hold_out_val": True}
    sets = {
        split: load_dataset(
            DatasetSpec("ravdess", str(data), split, None, "audio", options=options)
        )
        for split in ("train", "val", "test")
    }
    tested = {"ravdess": sets["test"]}
    if emodb is not None:
        spec = DatasetSpec("emodb", str(emodb), "all", None, "audio", options={"protocol": "4way"})
        tested["emodb"] = load_dataset(spec)
    train, val = (tower.averages(_clips(sets[split])) for split in ("train", "val"))
    choice = choose(train, _labels(sets["train"]), val, _labels(sets["val"]))
    return {
        "model": "linear probe",
        "layer": choice.layer,
        "C": choice.c,
        "num_layers": train.shape[1],
        "val": choice.val,
        "speakers": {split: sorted({str(s.group) for s in sets[split]}) for split in sets},
        "tower_sha256": tower.origin,
        "predictions": {
            name: records(choice, samples, tower.averages(_clips(samples)))
            for name, samples in tested.items()
        },
        "seconds": round(time.monotonic() - start, 1),
    }


def _clips(samples: Sequence[Sample]) -> list[Clip]:
    return [sample.clip for sample in samples]


def _labels(samples: Sequence[Sample]) -> list[str]:
    return [str(sample.label) for sample in samples]


def write(content: Mapping[str, Any], file: Path) -> None:
    """Write a JSON file that is whole or not there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, file)


def main(words: Sequence[str] | None = None) -> int:
    """Probe one fold; 2 for wrong use, 1 where something cannot be read."""
    parser = ScriptParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("outputs/real_voices"))
    parser.add_argument("--data", type=Path, required=True, help="folder of RAVDESS")
    parser.add_argument("--tower", type=Path, required=True, help="folder of a Whisper")
    parser.add_argument("--emodb", type=Path, help="folder of Emo-DB; without it RAVDESS alone")
    parser.add_argument("--folds", type=int, default=5, help="of speakers (5)")
    parser.add_argument("--fold", type=int, required=True, help="whose speakers are tested, from 1")
    options = parser.parse_args(words)
    try:
        tower = Tower(options.tower, options.out / "cache" / "probe")
        found = probe(tower, options.data, options.emodb, options.folds, options.fold)
    except R1OmniError as error:
        print(f"real_voices_probe: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    file = options.out / f"fold_{options.fold}" / "probe.json"
    write(found, file)
    best = found["val"][found["layer"]][found["C"]]
    shares = [
        f"{name} {sum(r['answer'] == r['label'] for r in rows) / len(rows):.1%} of {len(rows)}"
        for name, rows in found["predictions"].items()
    ]
    print(f"layer {found['layer']}, C {found['C']:g}: validation {best:.1%}; {'; '.join(shares)}")
    print(f"{file} has the predictions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
