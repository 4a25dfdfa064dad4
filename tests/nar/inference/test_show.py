"""Answers as pages."""

import networkx
import pytest
import torch

from nar.datasets.clrs30.recipe import recipe_spec
from nar.errors import UserError
from nar.inference import run
from nar.processors import PGN
from nar.training.reasoner import Reasoner


@pytest.fixture(scope="module")
def reasoner() -> Reasoner:
    """A model that has learnt nothing."""
    torch.manual_seed(0)
    return Reasoner({name: recipe_spec(name) for name in ("bfs", "insertion_sort", "lcs_length")}, PGN(hidden_dim=4))


def test_a_page_shows_what_was_answered_in_the_user_s_names(reasoner: Reasoner) -> None:
    graph = networkx.Graph([("Paris", "Bern"), ("Bern", "Rome"), ("Rome", "Oslo")])
    answer = run(reasoner, "bfs", graph, source="Paris", steps=6)
    trajectory = answer.show().trajectory
    tracks = {track.name: track for track in trajectory.tracks}
    assert trajectory.nodes == ["Paris", "Bern", "Rome", "Oslo"]
    assert (trajectory.num_steps, trajectory.num_true_steps) == (6, 3)
    assert tracks["pi"].predicted == [answer.prediction.outputs["pi"].tolist()]
    assert tracks["pi"].true == [answer.classical.prediction.outputs["pi"].tolist()]
    assert tracks["pi_h"].predicted[1:] == answer.prediction.hints["pi_h"].tolist()


@pytest.mark.parametrize(("algorithm", "data"), [("insertion_sort", [3.0, 1.0, 2.0]), ("lcs_length", ("abca", "bca"))])
def test_answers_on_sequences_have_pages(
    algorithm: str, data: list[float] | tuple[str, str], reasoner: Reasoner
) -> None:
    answer = run(reasoner, algorithm, data)
    page = answer.show()
    assert len(page.trajectory.nodes) == len(answer.names)
    assert page._repr_html_().startswith("<iframe")


def test_the_classical_algorithm_s_answer_has_no_page(reasoner: Reasoner) -> None:
    with pytest.raises(UserError, match="expected a model's answer to show, given the classical algorithm's"):
        run(reasoner, "insertion_sort", [2, 1]).classical.show()
