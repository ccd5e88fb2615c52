"""The LightningDataModule for every dataset of the registry.

It knows files and clips, not models: it asks the LightningModule of its Trainer for the media
processor and, when the towers are frozen, to have clips encoded (`ReadsClips`), before it makes the
first loader of a command. So every clip is decoded once and encoded once (`ClipStore`).
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
from torch.utils.data import DataLoader

from r1omni.data.batch import Batch, collate
from r1omni.data.clip_store import ClipStore, Encoder, ReadsClips
from r1omni.data.conditions import EvaluationSet
from r1omni.data.labels_io import MissingDataError
from r1omni.data.loader_config import LoaderConfig
from r1omni.data.missing_media import with_missing_media
from r1omni.data.overlap import Listed, refuse_shared
from r1omni.data.ranks import gathered_objects
from r1omni.data.registry import DatasetSpec, load_dataset
from r1omni.data.sampler import DealtSampler, LengthGroupedSampler, ResumableLoader
from r1omni.data.voting import Voting
from r1omni.media.processor import MediaProcessor
from r1omni.options import SHARE, Ranges, check_choice, check_number, check_type
from r1omni.types import AnswerMode, Clip, ClipFeatures, ClipMedia, Condition, Sample, UsageError

_logger = logging.getLogger(__name__)


class EmotionDataModule(L.LightningDataModule):
    """Clips with instructions, labels and reasoning, from any mix of datasets.

    Args:
        root: folder that the datasets' own `root` is relative to.
        train: datasets to train on, concatenated.
        val: datasets for `validate` and for validation during `fit`.
        test: datasets for `test`, evaluated one by one.
        predict: datasets for `predict`.
        expert: datasets whose targets GRPO imitates beside its rollouts (`grpo.chord`).
        conditions: what is done to the media of the test sets, any of full, muted (silence),
            blanked (black frames), swapped (the sound of a clip of another label), shuffled (frames
            in another order).
        loader: batch sizes, workers, cache.
        missing_media: share of the training samples with a reasoning that are served once more with
            sound or picture missing and what they say of it left out (`with_missing_media`).
        answer_mode: how validate, test and predict have samples answered: think (the model writes
            reasoning and answer), direct (the emotions are scored after an empty reasoning, and
            nothing is written) or both.
        voting: what `test` samples beside the answers, to vote on them.
    """

    RANGES: ClassVar[Ranges] = {"missing_media": SHARE}

    def __init__(
        self,
        root: str = ".",
        train: list[DatasetSpec] | None = None,
        val: list[DatasetSpec] | None = None,
        test: list[DatasetSpec] | None = None,
        predict: list[DatasetSpec] | None = None,
        conditions: list[Condition] | None = None,
        loader: LoaderConfig = LoaderConfig(),  # noqa: B008 - frozen
        missing_media: float = 0.0,
        answer_mode: AnswerMode = "think",
        expert: list[DatasetSpec] | None = None,
        voting: Voting = Voting(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__()
        check_type("data.root", root, str)
        self.root = Path(root)
        given = {"train": train, "val": val, "test": test, "predict": predict,
                 "expert": expert}  # fmt: skip
        for split, specs in given.items():
            check_type(f"data.{split}", specs, list[DatasetSpec] | None)
        check_type("data.loader", loader, LoaderConfig)
        self.specs = {split: specs or [] for split, specs in given.items()}
        if conditions != []:
            check_choice("data.conditions", conditions, list[Condition] | None)
        self.conditions: tuple[Condition, ...] = tuple(conditions or ("full",))
        check_choice("data.answer_mode", answer_mode, AnswerMode)
        self.answer_mode = answer_mode
        check_type("data.voting", voting, Voting)
        if voting.samples and answer_mode != "think":
            raise UsageError(
                f"data.voting: {voting.samples} completions are to vote, and data.answer_mode is "
                f"{answer_mode}; votes are compared with the answers of answer_mode: think"
            )
        self.voting = voting
        check_number("data.missing_media", missing_media, self.RANGES["missing_media"])
        self.missing_media = missing_media
        self.loader = loader
        self.samples: dict[str, list[list[Sample]]] = {}
        self._label_sets: dict[str, list[str]] = {}
        self.broken: dict[Clip, str] = {}
        # For each data set of a split what is left out of it, and why: an evaluation counts it as
        # wrong, and training does without it.
        self.unreadable: dict[str, list[list[tuple[Sample, str]]]] = {}
        self._store: ClipStore | None = None
        self._train_loader: ResumableLoader | None = None
        self._encode: Callable[[], None] | None = None
        self._is_settled = False

    # Before the first batch -----------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Read the lists of samples of a stage ("fit", "validate", "test" or "predict").

        Raises:
            UsageError: the stage has no dataset, one cannot be listed, or clips, or speakers that
                folds keep apart, are both trained on and tested or validated on.
        """
        stage = str(getattr(stage, "value", stage))  # Lightning hands in an enumeration
        splits = {"fit": ("train", "val", "expert"), "validate": ("val",)}.get(stage, (stage,))
        if not self.specs[splits[0]]:
            raise UsageError(
                f"data.{splits[0]} names no dataset, but `{stage}` needs one; add it to the config"
            )
        for split in splits:
            lists = [load_dataset(self._located(spec)) for spec in self.specs[split]]
            if split == "train" and self.missing_media:
                lists = with_missing_media(lists, self.missing_media, self.loader.seed)
            self.samples[split] = lists
            self._label_sets[split] = [str(samples[0].label_set) for samples in lists]
        self._store = None  # what it holds is of the stage before
        if stage != "predict":
            compared = splits if stage == "validate" else ("val", "test")
            trained = [*self._listed("train"), *self._listed("expert")]
            refuse_shared({"train": trained, **{name: self._listed(name) for name in compared}})

    def _listed(self, split: str) -> Listed:
        """All samples of a split; of one that the stage does not need, those that are there.

        Data that is not on this machine is told; anything else that is wrong with a set, such as a
        split that it does not have, is an error now and not when the training is over.
        """
        if split in self.samples:
            specs = map(self._located, self.specs[split])
            return list(zip(specs, self.samples[split], strict=True))
        found = []
        for spec in map(self._located, self.specs[split]):
            try:
                found.append((spec, load_dataset(spec)))
            except UsageError as error:
                if Path(spec.root).exists() and not isinstance(error, MissingDataError):
                    raise
                _logger.warning("data.%s could not be compared with the others: %s", split, error)
        return found

    def _located(self, spec: DatasetSpec) -> DatasetSpec:
        return replace(spec, root=str(self.root / spec.root))

    def prepare_clips(
        self,
        processor: MediaProcessor,
        report_dir: Path | None = None,
        encode: Callable[[], None] | None = None,
    ) -> None:
        """Decode what the samples of the stage ask for once into the cache; leave broken ones out.

        Under a Trainer the first loader calls this. Without one, call it after `setup`.

        Args:
            processor: decodes and processes.
            report_dir: folder for `broken_clips_<split>.jsonl`, one line a broken clip.
            encode: called once before the first loader is made; it calls `encode_clips` where
                batches are to carry features.

        Raises:
            R1OmniError: more than `max_broken_ratio` of a split is broken.
        """
        loader = self.loader
        limit_gb = loader.cache_limit_gb
        store = ClipStore(
            Path(loader.cache_dir), processor, limit_gb, *self._rank(), gathered_objects
        )
        listed = {split: [s for one in sets for s in one] for split, sets in self.samples.items()}
        store.claim(dict.fromkeys(s.clip for samples in listed.values() for s in samples))
        limits = loader.decode_workers, loader.clip_limit_s, loader.max_broken_ratio
        for split, samples in listed.items():
            if not samples:
                continue
            prepared = store.decode(split, samples, *limits, report_dir)
            self.broken |= prepared.broken
            failed = prepared.failed
            self.unreadable[split] = [
                [(s, failed[s.clip, s.modality]) for s in one if (s.clip, s.modality) in failed]
                for one in self.samples[split]
            ]
            self.samples[split] = [
                [s for s in one if (s.clip, s.modality) not in prepared.failed]
                for one in self.samples[split]
            ]
        self._store, self._encode, self._is_settled = store, encode, False

    def encode_clips(self, encode: Encoder, fingerprint: str) -> None:
        """Run the frozen towers over every clip once; batches then carry features.

        Args:
            encode: decoded clips to features.
            fingerprint: of what features depend on besides the decoded clips
                (`r1omni.models.towers.features_fingerprint`).
        """
        assert self._store is not None
        self._store.encode(encode, fingerprint)

    def _settled(self) -> ClipStore:
        """The clips of the stage, decoded and encoded; the first loader has that done."""
        if self._store is None:
            model = None if self.trainer is None else self.trainer.lightning_module
            if model is None:
                raise UsageError("without a Trainer, call prepare_clips before any loader is made")
            if not isinstance(model, ReadsClips):
                raise UsageError(
                    f"EmotionDataModule cannot serve {type(model).__name__}: it lacks what "
                    "r1omni.data.ReadsClips lists; train SFTModule, GRPOModule or a class of theirs"
                )
            self.prepare_clips(model.clip_processor, model.report_dir, model.encode_clips)
        store = self._store
        assert store is not None
        if not self._is_settled:
            self._is_settled = True
            if self._encode is not None:
                # Not earlier: only now the model is where it runs, with a checkpoint's weights.
                self._encode()
            store.shrink()
        return store

    # Batches --------------------------------------------------------------------------------

    def evaluation_sets(self, split: str) -> list[EvaluationSet]:
        """What each dataloader of a split serves, in order; `setup` has read the split."""
        conditions = self.conditions if split == "test" else ("full",)
        specs = self.specs[split]
        counts = Counter(spec.short_name for spec in specs)
        return [
            EvaluationSet(
                spec.short_name if counts[spec.short_name] == 1 else f"{spec.short_name}_{index}",
                self._label_sets[split][index],
                condition,
            )
            for index, spec in enumerate(specs)
            for condition in conditions
        ]

    def train_dataloader(self) -> ResumableLoader:
        store = self._settled()  # leaves broken samples out
        samples = [s for samples in self.samples["train"] for s in samples]
        rank, num_ranks = self._rank()
        whole = self.loader.batch_size * num_ranks
        replicas = num_ranks if self._splits_batches else 1
        sampler = LengthGroupedSampler(
            [len(s.instruction) + len(s.target or "") for s in samples],
            whole // replicas,
            drop_last=len(samples) >= whole,
            seed=self.loader.seed,
            num_replicas=replicas,
            rank=rank if self._splits_batches else 0,
            names=[s.sample_id for s in samples],
        )
        self._train_loader = ResumableLoader(
            store.dataset(samples), sampler, collate_fn=collate, num_workers=self.loader.num_workers
        )
        return self._train_loader

    def following(self) -> Batch:
        """The training batch that comes after the one at work, read ahead.

        Raises:
            UsageError: a subclass has a loader of its own.
        """
        if self._train_loader is None:
            raise UsageError(f"{type(self).__name__} has to override `following`, too")
        batch: Batch = self._train_loader.following()
        return batch

    def draw(self, count: int, stream: Sequence[int]) -> Batch:
        """Training samples at random, beside the order of the loader.

        Args:
            count: how many; at most as many as there are.
            stream: names the draw; the same names draw the same samples.
        """
        store = self._settled()
        dataset = store.dataset([s for samples in self.samples["train"] for s in samples])
        own = self._rank()[0] if self._splits_batches else 0
        seed = "/".join(map(str, (*stream, own)))
        chosen = random.Random(seed).sample(range(len(dataset)), min(count, len(dataset)))
        return collate([dataset[index] for index in chosen])

    def draw_expert(self, count: int, stream: Sequence[object]) -> Batch:
        """This rank's share of samples of `expert` at random; all ranks draw the same ones.

        Args:
            count: how many over all ranks. Where clips that are broken leave fewer, some come
                twice.
            stream: names the draw.
        """
        store, (rank, num_ranks) = self._settled(), self._rank()
        dataset = store.dataset([s for samples in self.samples["expert"] for s in samples])
        order = list(range(len(dataset)))
        random.Random("/".join(map(str, stream))).shuffle(order)
        chosen = [order[index % len(order)] for index in range(count)]
        return collate([dataset[index] for index in chosen[rank::num_ranks]])

    @property
    def neutral(self) -> ClipMedia | ClipFeatures:
        """Silence and black frames, in the form of the batches' media."""
        return self._settled().neutral

    @property
    def _splits_batches(self) -> bool:
        model = None if self.trainer is None else self.trainer.lightning_module
        return not isinstance(model, ReadsClips) or model.splits_batches

    def _rank(self) -> tuple[int, int]:
        trainer = self.trainer
        return (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)

    def val_dataloader(self) -> list[DataLoader[Any]]:
        return self._evaluation_loaders("val", ("full",))

    def test_dataloader(self) -> list[DataLoader[Any]]:
        return self._evaluation_loaders("test", self.conditions)

    def predict_dataloader(self) -> list[DataLoader[Any]]:
        return self._evaluation_loaders("predict", ("full",))

    def _evaluation_loaders(self, split: str, conditions: Sequence[str]) -> list[DataLoader[Any]]:
        store = self._settled()
        return [
            DataLoader(
                store.dataset(samples, condition, self.loader.seed),
                sampler=DealtSampler(len(samples), *self._rank()),
                batch_size=self.loader.eval_batch_size,
                collate_fn=collate,
                num_workers=self.loader.num_workers,
            )
            for samples in self.samples[split]
            for condition in conditions
        ]
