"""Training and evaluation on sparse graphs with Lightning.

Source: Minder et al., "SALSA-CLRS: A Sparse and Scalable Benchmark for Algorithmic Reasoning", LoG 2023.
"""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import AdamW

from nar.batch import Key
from nar.errors import UserError
from nar.limits import check_learning_rate
from nar.processor import SparseProcessor
from nar.sparse.batch import SparseBatch
from nar.sparse.model import SparseEncodeProcessDecode, SparseHintMode, SparsePredictions
from nar.sparse.scores import counts, losses, scores
from nar.specs import Spec
from nar.training.saving import KnowsItself, matched_by_name
from nar.training.schedules import with_scheduler


class SparseReasoner(KnowsItself, LightningModule):
    """A :class:`~nar.sparse.model.SparseEncodeProcessDecode` model that learns to execute algorithms on sparse graphs.

    Logs the loss of every probe by name, the accuracy of every output, that of whole graphs, and ``val/score``, the
    mean accuracy of outputs over the algorithms, by which the best weights are chosen.

    Args:
        specs: The spec of each algorithm by name; on the command line, those of the data.
        processor: The graph network, such as ``nar.processors.sparse.ConvProcessor`` with a convolution.
        learning_rate: Of AdamW.
        hint_mode: Whether hints are fed back and predicted, or not used.
        lr_scheduler: As of :class:`nar.training.reasoner.Reasoner`.
    """

    kind = "sparse"

    def __init__(
        self,
        specs: Mapping[str, Spec],
        processor: SparseProcessor,
        learning_rate: float = 1e-3,
        hint_mode: SparseHintMode = "encoded_decoded",
        lr_scheduler: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_learning_rate(learning_rate)
        self.specs = specs
        self.learning_rate = learning_rate
        self.lr_scheduler = lr_scheduler
        self.model = SparseEncodeProcessDecode(specs, processor, hint_mode)
        self.counts: dict[Key, dict[str, Tensor]] = {}
        self.scores: dict[Key, dict[str, float]] = {}
        """The scores of the last validation or test, by output and under ``"score"`` their mean."""

    def configure_optimizers(self) -> Any:
        """AdamW, and what changes its learning rate."""
        adam = matched_by_name(AdamW(self.named_parameters(), lr=self.learning_rate))
        return with_scheduler(adam, self.lr_scheduler)

    def forward(self, batch: SparseBatch, *, with_hints: bool = True) -> SparsePredictions:
        """Logits of outputs, and of hints if asked for."""
        predictions: SparsePredictions = self.model(batch, with_hints=with_hints)
        return predictions

    def training_step(self, batch: SparseBatch, batch_idx: int) -> Tensor:
        """The sum of all output and hint losses."""
        by_probe = losses(self.specs[batch.algorithm], self(batch), batch)
        loss = torch.stack(list(by_probe.values())).sum()
        if not loss.isfinite():
            raise UserError(f"the loss of {batch.algorithm} is {float(loss)} after step {self.global_step}")
        named = {f"train/{batch.algorithm}/loss/{name}": value.detach() for name, value in by_probe.items()}
        self.log_dict(named, batch_size=len(batch.lengths))
        self.log("loss", loss.detach(), prog_bar=True, logger=False, batch_size=1)
        return loss

    def validation_step(self, batch: SparseBatch, batch_idx: int) -> None:
        """Add a batch to the counts of its algorithm and size."""
        new = counts(self.specs[batch.algorithm], self(batch, with_hints=False).outputs, batch)
        old = self.counts.setdefault(batch.key, {})
        for name, count in new.items():
            old[name] = old.get(name, 0) + count

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        """Log scores."""
        self._log_scores("val")
        self.log("val/score", sum(by_name["score"] for by_name in self.scores.values()) / len(self.scores))

    def on_test_epoch_end(self) -> None:
        """Log scores."""
        self._log_scores("test")

    def _log_scores(self, stage: str) -> None:
        """Log what was counted, in all processes, from which `scores` is set; counts start again."""
        for key, by_name in self.counts.items():
            gathered = self.all_gather(torch.stack(list(by_name.values())))
            assert isinstance(gathered, Tensor)
            total = dict(zip(by_name, gathered.view(-1, len(by_name), 2).sum(dim=0), strict=True))
            self.scores[key] = scores(total)
            self.log_dict({f"{stage}/{key[0]}/{key[1]}/{name}": x for name, x in self.scores[key].items()})
        self.scores = {key: self.scores[key] for key in self.counts}
        self.counts = {}
