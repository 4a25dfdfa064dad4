"""What the models that Lightning trains here have in common."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.optim import Optimizer

from nar.batch import Key, NumpyArray
from nar.configuration import KeepsArguments, changes, plain
from nar.limits import check_learning_rate
from nar.specs import Spec
from nar.training.finite import PendingLosses
from nar.training.saving import (
    CONFIG,
    RUN,
    Kind,
    dtypes_of,
    hyper_parameters,
    matched_by_name,
    plain_specs,
    restore_changes,
    run_settings,
)
from nar.training.schedules import optimizer_of, with_scheduler
from nar.training.tally import Tally


class BaseReasoner(KeepsArguments, LightningModule):
    """A model for Lightning that stops where its loss is not finite, counts scores over batches and processes, and
    whose checkpoints tell what it is made of, whoever trains it.

    A subclass says how to compute losses (:meth:`losses`), what to count of a batch (``validation_step`` and
    ``test_step`` add it to `tally`), and what scores are made of that (:meth:`scores_of`).

    Args:
        learning_rate: Of the optimizer that is made if no other is given.
        lr_scheduler: What changes the learning rate after every step: the ``class_path`` of a scheduler such as
            :class:`nar.training.schedules.WarmupCosine`, and its ``init_args``; None for nothing.
        optimizer: The ``class_path`` of an optimizer such as :class:`torch.optim.AdamW`, and its ``init_args``, with a
            learning rate of its own; None for that of :meth:`make_optimizer`.

    Attributes:
        kind: The name that checkpoints have for models of this class.
        not_in_config: Arguments that are not among those of the model in checkpoints: others say what they are.
        specs: The spec of each algorithm by name, where the model has them.
        made_from: The plain values of the model and the data that it was made from, if it was.
        tally: What has been counted of the batches of an evaluation that goes on.
        scores: The scores of the last validation or test, by algorithm and size and then by name; under ``"score"``
            their mean.
        marks: The counts that the scores of the last test are made of, of each trajectory by itself, likewise.
    """

    kind: ClassVar[Kind]
    not_in_config: ClassVar[tuple[str, ...]] = ("specs",)
    made_from: Mapping[str, Any] | None = None
    specs: Mapping[str, Spec]

    def __init__(
        self,
        learning_rate: float,
        lr_scheduler: dict[str, Any] | None = None,
        optimizer: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_learning_rate(learning_rate)
        self.learning_rate = learning_rate
        self.lr_scheduler = lr_scheduler
        self.optimizer = optimizer
        self.tally = Tally()
        self.scores: dict[Key, dict[str, float]] = {}
        self.marks: dict[Key, dict[str, NumpyArray]] = {}
        self._pending: PendingLosses | None = None

    # Training

    @property
    def has_unused_parameters(self) -> bool:
        """Whether a step may leave parameters without gradient, such as those of algorithms that it is not about."""
        return True

    def setup(self, stage: str) -> None:
        """Let DDP expect parameters without gradient, for which its processes then have to look."""
        if isinstance(self.trainer.strategy, DDPStrategy) and self.has_unused_parameters:
            self.trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)

    @abstractmethod
    def make_optimizer(self) -> Optimizer:
        """The optimizer of the parameters by name."""

    def configure_optimizers(self) -> Any:
        """The optimizer, which finds its state in a checkpoint by name, and what changes its learning rate."""
        given = self.optimizer
        optimizer = self.make_optimizer() if given is None else optimizer_of(self.named_parameters(), given)
        return with_scheduler(matched_by_name(optimizer), self.lr_scheduler)

    @abstractmethod
    def losses(self, batch: Any) -> tuple[dict[str, Tensor], Tensor]:
        """The losses of a training batch by name, such as ``loss/pi``, and what is to be minimized."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The loss of a batch; it is logged, and so are its parts."""
        if hasattr(batch, "seed"):  # noise depends on the batch alone, so a resumed run draws the same
            torch.manual_seed(batch.seed)
        algorithm = getattr(batch, "algorithm", None)
        by_name, loss = self.losses(batch)
        self.check_finite(by_name, loss, algorithm)
        stage = "train" if algorithm is None else f"train/{algorithm}"
        self.log_dict({f"{stage}/{name}": value.detach() for name, value in by_name.items()}, batch_size=1)
        self.log("loss", loss.detach(), prog_bar=True, logger=False, batch_size=1)
        return loss

    def check_finite(self, by_name: Mapping[str, Tensor], loss: Tensor, algorithm: str | None = None) -> None:
        """Stop if the loss of a step is not finite in some process: that of a GPU is looked at in the next step, and
        before anything is evaluated or saved.

        Raises:
            UserError: With the names of the losses that are not.
        """
        pending = PendingLosses.send(by_name, loss, step=self.global_step, algorithm=algorithm)
        self.check_pending()
        self._pending = pending
        if pending.arrived is None:
            self.check_pending()

    def check_pending(self) -> None:
        """Stop if the last loss, which nobody has looked at yet, was not finite."""
        last, self._pending = self._pending, None
        if last is not None:
            last.check_finite()

    def on_train_end(self) -> None:
        """Check the loss of the last step, which is still pending."""
        self.check_pending()

    # Evaluation

    def on_validation_start(self) -> None:
        """Evaluate no model whose loss was not finite."""
        self.check_pending()

    @property
    def marked_specs(self) -> Mapping[str, Spec]:
        """The probes of each algorithm by the types that `marks` are counted as."""
        return self.specs

    @abstractmethod
    def scores_of(self, algorithm: str, counts: Mapping[str, Tensor]) -> dict[str, float]:
        """The scores of an algorithm's outputs by name, and under ``"score"`` their mean."""

    def finish_tally(self) -> Tally:
        """What all processes counted, from which `scores` is set; the next tally starts empty."""
        tally, self.tally = self.tally.over_all_ranks(), Tally()
        self.scores = {key: self.scores_of(key[0], counts) for key, counts in tally.counts.items()}
        return tally

    def on_test_epoch_end(self) -> None:
        """Log scores, and keep what was counted of each trajectory in `marks`."""
        tally = self.finish_tally()
        self.marks = {
            key: {name: torch.cat(parts).numpy() for name, parts in by_name.items()}
            for key, by_name in tally.marks.items()
        }
        self.log_scores("test")

    def log_scores(self, stage: str) -> None:
        """Log the scores of every algorithm and size."""
        for (algorithm, num_nodes), by_name in self.scores.items():
            self.log_dict({f"{stage}/{algorithm}/{num_nodes}/{name}": value for name, value in by_name.items()})

    # Checkpoints

    def when_made(self) -> None:
        """Let Lightning's loggers know the arguments."""
        self.save_hyperparameters(self.model_config())

    def model_config(self) -> dict[str, Any]:
        """The arguments of the model as plain values."""
        arguments = {name: plain(x) for name, x in vars(self)["_made"].arguments.items()}
        arguments |= (self.made_from or {}).get("model", {})
        return {name: x for name, x in arguments.items() if name not in self.not_in_config}

    def parts_config(self) -> dict[str, Any]:
        """What is to be known besides the arguments of the model: the probes of its algorithms."""
        return {"specs": plain_specs(self.specs)}

    def data_config(self, data: Any = None) -> dict[str, Any]:
        """The arguments of the data as plain values; of data of another kind, the algorithms alone.

        Args:
            data: A data module; if not given, the one that the model is trained with, or was before it was saved.
        """
        trainer: Any = self._trainer
        data = trainer.datamodule if data is None and trainer is not None else data
        if data is None and self.made_from is not None:
            return dict(self.made_from.get("data", {"algorithms": self.algorithm_names()}))
        if not isinstance(data, KeepsArguments):
            return {"algorithms": self.algorithm_names()}
        arguments = {name: plain(x) for name, x in vars(data)["_made"].arguments.items()}
        own = {"algorithms": plain(vars(data).get("algorithms", self.algorithm_names()))}
        return {**arguments, **own, **getattr(data, "made_from", {}).get("data", {})}

    def algorithm_names(self) -> list[str]:
        """The names of the algorithms that the model knows."""
        return list(self.specs)

    @property
    def config(self) -> dict[str, Any]:
        """What the model is made of as plain values, and what was changed in it since it was made."""
        frozen = [name for name, x in self.named_parameters() if not x.requires_grad]
        since = {"changed": changes(self), "dtypes": dtypes_of(self.state_dict()), "frozen": frozen}
        return {
            "model": self.model_config(),
            **self.parts_config(),
            "kind": self.kind,
            **{name: value for name, value in since.items() if value},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save no model whose loss was not finite; besides, what it and its data are made of, and how it is trained."""
        self.check_pending()
        config = {**self.config, "data": self.data_config()}
        checkpoint[CONFIG] = config
        checkpoint["hyper_parameters"] = hyper_parameters(config)
        if self._trainer is not None:
            checkpoint[RUN] = run_settings(self._trainer)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Change the model as the saved one was; its precision is the trainer's if there is one."""
        if CONFIG in checkpoint:
            restore_changes(self, {**checkpoint[CONFIG], **({} if self._trainer is None else {"dtypes": {}})})
