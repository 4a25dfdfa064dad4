"""Put a trained reasoner, frozen, into a larger model: how slow roads are is learnt from the routes that people take.

Roads have a length and one of three surfaces. The model guesses travel times, the reasoner finds routes by these, and
the gradient of their errors goes back through all of its steps: python reasoner_in_model.py
"""

import numpy as np
import torch
from jsonargparse import auto_cli
from torch import Tensor, nn
from torch.nn import functional

from nar import Reasoner
from nar.batch import Feedback, to_tensors
from nar.datasets import SPECS
from nar.datasets.clrs30.samplers import run_on

SLOWNESS = np.array([0.2, 0.5, 1.0])  # of the surfaces; the model is not told


class Routes(nn.Module):
    """The place before each on the fastest route from a source."""

    def __init__(self) -> None:
        super().__init__()
        self.slowness = nn.Parameter(torch.full([len(SLOWNESS)], 0.5))
        self.reasoner = Reasoner.from_pretrained("dijkstra").requires_grad_(False)

    def forward(self, length: Tensor, surface: Tensor, roads: Feedback[Tensor]) -> Tensor:
        """Logits [B, N, N] by the lengths and surfaces of roads [B, N, N], whose true times are not looked at."""
        times = length * self.slowness.clamp(0, 1)[surface]
        features = roads.features._replace(inputs={**roads.features.inputs, "A": times})
        return self.reasoner.model("dijkstra", features, with_hints=False).outputs["pi"]


def draw(rng: np.random.Generator, num_graphs: int, num_nodes: int) -> tuple[Tensor, Tensor, Feedback[Tensor]]:
    """Lengths (0: no road) and surfaces of random roads [B, N, N], and Dijkstra's algorithm on them, from place 0."""
    size = (num_graphs, num_nodes, num_nodes)
    length = np.triu(rng.uniform(size=size) * (rng.uniform(size=size) < 0.4), k=1)
    surface = np.triu(rng.integers(len(SLOWNESS), size=size), k=1)
    length, surface = (one + one.swapaxes(1, 2) for one in (length, surface))
    roads = run_on("dijkstra", [(times, 0) for times in length * SLOWNESS[surface]], num_nodes=num_nodes, hints="first")
    return torch.tensor(length).float(), torch.tensor(surface), to_tensors(roads, SPECS["dijkstra"])


def main(steps: int = 50) -> None:
    """Learn from so many batches of routes; print the share of right places and the slowness of surfaces."""
    rng, model = np.random.default_rng(0), Routes()
    optimizer = torch.optim.Adam([model.slowness], lr=0.03)
    for step in range(1, steps + 1):
        length, surface, roads = draw(rng, 16, 12)
        logits, true = model(length, surface, roads), roads.outputs["pi"].long()
        optimizer.zero_grad()
        functional.cross_entropy(logits.flatten(0, 1), true.flatten()).backward()
        optimizer.step()
        print(f"{step}: {(logits.argmax(dim=-1) == true).float().mean():.3f}, {model.slowness.tolist()}")


if __name__ == "__main__":
    auto_cli(main)
