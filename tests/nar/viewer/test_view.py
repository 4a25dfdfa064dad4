"""Pages as files."""

from pathlib import Path

import pytest
import torch

from nar.batch import Features, Feedback
from nar.datasets import sample
from nar.datasets.clrs30.recipe import recipe_spec
from nar.errors import UserError
from nar.processors import PGN
from nar.specs import Location, Probe, Stage, Type
from nar.training.reasoner import Reasoner
from nar.viewer import show, view


@pytest.fixture
def reasoner() -> Reasoner:
    return Reasoner({"bfs": recipe_spec("bfs")}, PGN(hidden_dim=4))


def test_the_same_page_is_the_same_file(reasoner: Reasoner, tmp_path: Path) -> None:
    drawn = sample("bfs", num_nodes=6, num_samples=3, seed=0)
    first = view(reasoner, "bfs", drawn, tmp_path / "first.html", graph=2).read_bytes()
    assert first == show(reasoner, "bfs", drawn, graph=2).save(tmp_path / "second.html").read_bytes()
    assert first != show(reasoner, "bfs", drawn).html.encode()


def test_a_page_names_no_other_file_or_address(reasoner: Reasoner) -> None:
    page = show(reasoner, "bfs", num_nodes=4).html
    assert "http:" not in page
    assert "https:" not in page
    assert "src=" not in page
    assert "import(" not in page
    assert "%DATA%" not in page


def test_an_unknown_algorithm_is_refused(reasoner: Reasoner) -> None:
    with pytest.raises(UserError, match=r"expected an algorithm of the model \(bfs\), given dfs"):
        show(reasoner, "dfs")


def test_another_model_is_refused() -> None:
    with pytest.raises(UserError, match="expected a reasoner of dense graphs to show, given a Linear"):
        show(torch.nn.Linear(1, 1), "bfs")  # type: ignore[arg-type]


def test_a_file_that_cannot_be_written_is_a_user_s_error(reasoner: Reasoner, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write"):
        show(reasoner, "bfs", num_nodes=4).save(tmp_path / "none" / "page.html")


def test_an_algorithm_of_a_user_s_own_is_shown() -> None:
    spec = {
        "pos": Probe(Stage.INPUT, Location.NODE, Type.SCALAR),
        "state": Probe(Stage.HINT, Location.NODE, Type.MASK),
        "kind": Probe(Stage.OUTPUT, Location.NODE, Type.CATEGORICAL, 3),
    }
    reasoner = Reasoner({"own": spec}, PGN(hidden_dim=4))
    features = Features({"pos": torch.arange(4)[None] / 4}, {"state": torch.zeros(3, 1, 4)}, torch.tensor([3]))
    trajectory = show(reasoner, "own", Feedback(features, {"kind": torch.tensor([[0, 1, 2, 1]])})).trajectory
    assert [track.meaning.sentence for track in trajectory.tracks] == [
        "A number for every node, given.",
        "Yes or no for every node, observed at every step.",
        "One of several classes for every node, the answer.",
    ]
    assert trajectory.num_steps == 2
    with pytest.raises(UserError, match="expected trajectories of own to show"):
        show(reasoner, "own")
