"""Training and evaluation on sparse graphs with Lightning.

Source: Minder et al., "SALSA-CLRS: A Sparse and Scalable Benchmark for Algorithmic Reasoning", LoG 2023.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Optimizer

from nar.processor import SparseProcessor
from nar.sparse.batch import SparseBatch
from nar.sparse.model import SparseEncodeProcessDecode, SparseHintMode, SparsePredictions
from nar.sparse.scores import counts, counts_by_graph, losses, scores
from nar.specs import Spec, Type
from nar.training.pretrained import PretrainedReasoner


class SparseReasoner(PretrainedReasoner):
    """A :class:`~nar.sparse.model.SparseEncodeProcessDecode` model that learns to execute algorithms on sparse graphs.

    Logs the loss of every probe by name, the accuracy of every output, that of whole graphs, and ``val/score``, the
    mean accuracy of outputs over the algorithms, by which the best weights are chosen.

    Args:
        specs: The spec of each algorithm by name; on the command line, those of the data.
        processor: The graph network, such as ``nar.processors.sparse.ConvProcessor`` with a convolution.
        learning_rate: Of AdamW, if no other optimizer is given.
        hint_mode: Whether hints are fed back and predicted, or not used.
        lr_scheduler: As of :class:`nar.training.reasoner.Reasoner`.
        optimizer: As of :class:`nar.training.reasoner.Reasoner`; None for AdamW.
    """

    kind = "sparse"

    def __init__(
        self,
        specs: Mapping[str, Spec],
        processor: SparseProcessor,
        learning_rate: float = 1e-3,
        hint_mode: SparseHintMode = "encoded_decoded",
        lr_scheduler: dict[str, Any] | None = None,
        optimizer: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(learning_rate, lr_scheduler, optimizer)
        self.specs = specs
        self.model = SparseEncodeProcessDecode(specs, processor, hint_mode)

    def make_optimizer(self) -> Optimizer:
        """AdamW, of all parameters."""
        return AdamW(self.named_parameters(), lr=self.learning_rate)

    def forward(self, batch: SparseBatch, *, with_hints: bool = True) -> SparsePredictions:
        """Logits of outputs, and of hints if asked for."""
        predictions: SparsePredictions = self.model(batch, with_hints=with_hints)
        return predictions

    def run(
        self,
        *given: Any,
        source: Any = None,
        weight: str | None = "weight",
        names: Any = None,
        steps: Any = "auto",
        limit: int | None = None,
        seed: int = 0,
    ) -> Any:
        """The answer on a graph of your own, or a list of answers: see :func:`nar.inference.sparse.run`.

        ``run(graph)``, or ``run(task, graph)`` for one of several tasks.
        """
        from nar.inference.sparse import run

        options = {"source": source, "weight": weight, "names": names}
        return run(self, *given, **options, steps=steps, limit=limit, seed=seed)

    def losses(self, batch: SparseBatch) -> tuple[dict[str, Tensor], Tensor]:
        """The losses of all outputs and hints by name, and their sum."""
        by_probe = losses(self.specs[batch.algorithm], self(batch), batch)
        return {f"loss/{name}": value for name, value in by_probe.items()}, torch.stack(list(by_probe.values())).sum()

    def validation_step(self, batch: SparseBatch, batch_idx: int) -> None:
        """Add a batch to the counts of its algorithm and size."""
        self._count(batch)

    def test_step(self, batch: SparseBatch, batch_idx: int) -> None:
        """Add a batch to the counts of its algorithm and size."""
        self.tally.add_marks(batch.key, self._count(batch))

    def _count(self, batch: SparseBatch) -> dict[str, Tensor]:
        """Add a batch to the counts; what was counted of each graph."""
        by_graph = counts_by_graph(self.specs[batch.algorithm], self(batch, with_hints=False).outputs, batch)
        self.tally.add_counts(batch.key, counts(by_graph))
        return by_graph

    @property
    def marked_specs(self) -> Mapping[str, Spec]:
        """The probes of each algorithm, all counted as pointers are: by how many entries are right."""
        return {
            algorithm: {name: probe._replace(type=Type.POINTER) for name, probe in spec.items()}
            for algorithm, spec in self.specs.items()
        }

    def scores_of(self, algorithm: str, counts: Mapping[str, Tensor]) -> dict[str, float]:
        """The accuracies of outputs and of graphs by name, and under ``"score"`` the mean over outputs."""
        return scores(counts)

    def on_validation_epoch_end(self) -> None:
        """Log scores."""
        self.finish_tally()
        self.log_scores("val")
        self.log("val/score", sum(by_name["score"] for by_name in self.scores.values()) / len(self.scores))
