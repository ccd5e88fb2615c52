"""How a model under a trainer is evaluated: the hooks of validate, test and predict."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning as L
import torch

from r1omni.data import EmotionDataModule
from r1omni.data.batch import Batch
from r1omni.data.ranks import gathered_objects
from r1omni.data.voting import Voting
from r1omni.metrics.recognition import read_prediction
from r1omni.models.answering import answer_prompts
from r1omni.models.omni import OmniModel
from r1omni.models.parallelize import gathered
from r1omni.models.pipeline import R1Omni
from r1omni.models.sampler import generate
from r1omni.text.emotions import LABEL_SETS, LabelSet
from r1omni.text.prompt import encode_prompt
from r1omni.training.answer_log import AnswerLog, GivenAnswer, answers_key
from r1omni.training.answer_records import Votes
from r1omni.training.evaluation import Evaluation
from r1omni.training.provenance import provenance
from r1omni.types import PromptInputs, UsageError


@dataclass(frozen=True)
class _Written:
    """N completions, whether each has ended, its tokens, and the seconds that all took."""

    texts: list[str]
    ended: list[bool]
    lengths: list[int]
    seconds: float


class EvaluatedModule(L.LightningModule):
    """Asks a model about every sample of a set, and has the answers judged and written.

    A subclass makes the model.

    Attributes:
        omni: the model with its tokenizers and processor.
        model: the model itself.
        init_from: model folder or repository that the model was read from.
        loaded_step: optimizer steps of the checkpoint that was loaded, or None.
        max_new_tokens: longest answer in tokens.
        evaluation: answers of the split that was evaluated last.
    """

    omni: R1Omni
    model: OmniModel
    init_from: str
    max_new_tokens: int

    def __init__(self) -> None:
        super().__init__()
        self.loaded_step: int | None = None
        self.evaluation: Evaluation | None = None
        self._provenance: dict[str, Any] | None = None
        self._split = ""
        self._answer_log: AnswerLog | None = None

    @property
    def datamodule(self) -> EmotionDataModule:
        """What the Trainer was given.

        Raises:
            UsageError: no EmotionDataModule.
        """
        given = self.trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(given, EmotionDataModule):
            raise UsageError(
                f"{type(self).__name__} was given no EmotionDataModule, which decodes its clips; "
                "give one to the Trainer as `datamodule`"
            )
        return given

    @property
    def run_dir(self) -> Path:
        """Folder of everything this run writes."""
        return Path(self.trainer.default_root_dir)

    @property
    def _writes_nothing(self) -> bool:
        return bool(self.trainer.fast_dev_run)  # type: ignore[attr-defined]

    # Batches --------------------------------------------------------------------------------

    def prompts(self, batch: Batch) -> PromptInputs:
        """The batch's prompts, tokenized."""
        return PromptInputs(
            token_ids=tuple(
                encode_prompt(self.omni.tokenizer, s.instruction, s.modality) for s in batch.samples
            ),
            instruction_ids=tuple(
                self.omni.encode_instruction(s.instruction) for s in batch.samples
            ),
            media=batch.media,
        )

    def transfer_batch_to_device(self, batch: Batch, device: Any, index: int) -> Batch:
        # The model moves what it reads; samples are plain Python.
        return batch

    # Evaluation -----------------------------------------------------------------------------

    def _start_evaluation(self, split: str) -> None:
        data = self.datamodule
        voting = data.voting if split == "test" else Voting()
        self._split = split
        self.evaluation = Evaluation(data.evaluation_sets(split), data.answer_mode, voting)
        self._answer_log = None
        if split == "val":
            return
        if self.trainer.is_global_zero:
            # Before the answers, which would be lost if it failed.
            self._provenance = provenance(self, split)
        if not self._writes_nothing:
            self._answer_log = self._open_log(split)

    def _open_log(self, split: str) -> AnswerLog:
        data, own = self.datamodule, None
        if self._provenance is not None and self.trainer.is_global_zero:
            samples = [sample for one in data.samples[split] for sample in one]
            sets = data.evaluation_sets(split)
            own = answers_key(self._provenance, data.loader.seed, sets, samples)
        key = str(gathered_objects(own)[0])
        return AnswerLog(self.run_dir / split, key, self.global_rank)

    def _evaluate(self, batch: Batch, dataloader_idx: int) -> list[str]:
        evaluation, log = self.evaluation, self._answer_log
        assert evaluation is not None
        answers = None if log is None else log.known(dataloader_idx, batch.samples)
        if answers is None:
            answers = self._answered(batch, evaluation, dataloader_idx)
            if log is not None:
                log.add(dataloader_idx, batch.samples, answers)
        warnings = [media.warnings for media in batch.media]
        texts = [answer.text for answer in answers]
        told = [(a.ended, a.scores, a.direct_scores, a.votes) for a in answers]
        ended, scores, direct, votes = map(list, zip(*told, strict=True))
        evaluation.add(dataloader_idx, batch.samples, texts, ended, warnings, scores, direct, votes)
        return texts

    def _answered(self, batch: Batch, evaluation: Evaluation, index: int) -> list[GivenAnswer]:
        """What the model says of a batch, in the answer mode of the data, and its votes."""
        labels, mode = LABEL_SETS[evaluation.sets[index].label_set], evaluation.answer_mode
        if mode == "think":
            said = self._written(batch, self.max_new_tokens)
            found = [GivenAnswer(*one) for one in zip(said.texts, said.ended, strict=True)]
            if not evaluation.voting.samples:
                return found
            votes = self._votes(batch, said, evaluation.voting, labels)
            return [replace(one, votes=own) for one, own in zip(found, votes, strict=True)]
        with torch.no_grad(), gathered(self.model):
            prompts = self.model.embed_prompts(self.prompts(batch))
            told = answer_prompts(self.omni, prompts, self.max_new_tokens, mode, labels.words)
        none = [None] * len(batch)
        columns = told.texts, told.ended, told.reasoned or none, told.direct or none
        return [GivenAnswer(*one) for one in zip(*columns, strict=True)]

    def _end_evaluation(self, loaders: Any) -> Evaluation:
        """The evaluation of all ranks."""
        assert self.evaluation is not None
        self.evaluation.gather([len(loader.dataset) for loader in loaders])
        unreadable = self.datamodule.unreadable[self._split]
        num_conditions = len(self.evaluation.sets) // len(unreadable)
        for index in range(len(self.evaluation.sets)):
            self.evaluation.add_unreadable(index, unreadable[index // num_conditions])
        return self.evaluation

    def _write(self, evaluation: Evaluation, folder: str) -> None:
        if self.trainer.is_global_zero and not self._writes_nothing:
            evaluation.write(self.run_dir / folder, self.datamodule.broken, self._provenance)
            if self._answer_log is not None:
                self._answer_log.remove()

    @torch.no_grad()
    def answers(self, batch: Batch, max_new_tokens: int) -> tuple[list[str], list[bool]]:
        """What the model says of each sample, taking the most probable token each time.

        Returns:
            B texts with their special tokens, and whether each has ended.
        """
        said = self._written(batch, max_new_tokens)
        return said.texts, said.ended

    def _written(
        self,
        batch: Batch,
        max_new_tokens: int,
        voting: Voting = Voting(),  # noqa: B008 - frozen
    ) -> _Written:
        """Votes on each sample, side by side; without any, its answer of the likeliest tokens."""
        begin = time.perf_counter()
        seeds, group_size, temperature = None, 1, 0.0
        if voting.samples:
            seeds = voting.seeds(self.datamodule.loader.seed, (s.sample_id for s in batch.samples))
            group_size, temperature = voting.samples, voting.temperature
        sampling = self.omni.sampling(max_new_tokens, temperature)
        prompts = self.prompts(batch)
        with gathered(self.model):
            embedded = self.model.embed_prompts(prompts)
            found = generate(self.model, embedded, sampling, group_size=group_size, seeds=seeds)
        texts, ended = self.omni.completions(found)
        lengths = found.mask.sum(dim=1).tolist()
        return _Written(texts, ended, lengths, time.perf_counter() - begin)

    @torch.no_grad()
    def _votes(self, batch: Batch, said: _Written, voting: Voting, labels: LabelSet) -> list[Votes]:
        """The votes on each sample, beside what its answer took."""
        drawn = self._written(batch, self.max_new_tokens, voting)
        read = zip(drawn.texts, drawn.ended, strict=True)
        named = [read_prediction(text, labels, end).label for text, end in read]
        count, size = voting.samples, len(batch.samples)
        rows = [slice(start, start + count) for start in range(0, size * count, count)]
        return [
            Votes(
                tuple(named[own]), said.lengths[index], sum(drawn.lengths[own]),
                said.seconds / size, drawn.seconds / size,
            )
            for index, own in enumerate(rows)
        ]  # fmt: skip

    def on_validation_epoch_start(self) -> None:
        self._start_evaluation("val")

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._evaluate(batch, dataloader_idx)

    def on_validation_epoch_end(self) -> None:
        evaluation = self._end_evaluation(self.trainer.val_dataloaders)
        self.log_dict(evaluation.metrics("val"), rank_zero_only=True)

    def on_test_epoch_start(self) -> None:
        self._start_evaluation("test")

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._evaluate(batch, dataloader_idx)

    def on_test_epoch_end(self) -> None:
        evaluation = self._end_evaluation(self.trainer.test_dataloaders)
        self._write(evaluation, "test")
        self.log_dict(evaluation.metrics("test"), rank_zero_only=True)

    def on_predict_epoch_start(self) -> None:
        self._start_evaluation("predict")

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> list[str]:
        return self._evaluate(batch, dataloader_idx)

    def on_predict_epoch_end(self) -> None:
        self._write(self._end_evaluation(self.trainer.predict_dataloaders), "predict")
