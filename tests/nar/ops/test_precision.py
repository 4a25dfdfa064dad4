"""A reasoner in another precision than single."""

from typing import Any

import pytest
import torch
from torch import Tensor

from nar.datasets.clrs30.recipe import recipe_spec
from nar.datasets.splits.splits import TrainStream
from nar.processors import MPNN, TripletGMPNN
from nar.training.reasoner import Reasoner

ALGORITHMS = ["bfs", "floyd_warshall", "binary_search"]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-5), (torch.bfloat16, 0.02), (torch.float16, 0.005)]
)
@pytest.mark.parametrize("settings", [{}, {"use_lstm": True, "hint_teacher_forcing": 1.0, "hint_feedback": "hard"}])
def test_a_reasoner_learns_in_any_precision(
    algorithm: str, dtype: torch.dtype, tolerance: float, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = TrainStream([algorithm], [5], 4, seed=1)[0]
    processor = TripletGMPNN(8) if algorithm == "floyd_warshall" else MPNN(8)
    reasoner = Reasoner({algorithm: recipe_spec(algorithm)}, processor, **settings)
    for name in ("log", "log_dict"):
        monkeypatch.setattr(reasoner, name, lambda *args, **kwargs: None)
    losses: list[Tensor] = []
    for precision in (torch.float32, dtype):
        reasoner.to(precision).zero_grad()
        loss = reasoner.training_step(batch, 0)
        loss.backward()
        losses.append(loss.detach().double())
        assert all(x.grad is None or x.grad.isfinite().all() for x in reasoner.parameters())
        with torch.no_grad():
            reasoner.validation_step(batch, 0)
            _, outputs = reasoner.predict_step(batch, 0)
        assert set(outputs) == set(batch.feedback.outputs)
    torch.testing.assert_close(losses[1], losses[0], rtol=tolerance, atol=0)
