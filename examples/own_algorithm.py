"""Train a reasoner of an algorithm of your own, and run it on a graph of your own: python own_algorithm.py"""

import networkx as nx
import numpy as np
from jsonargparse import auto_cli
from lightning.pytorch import Trainer, seed_everything

from nar import CLRS30, Reasoner
from nar.batch import NumpyArray
from nar.datasets import Algorithm, Trace, record
from nar.processors import PGN
from nar.specs import Location, Probe, Stage, Type

NONE, RED, BLUE = range(3)


class TwoColouring(Algorithm):
    """Colours in waves: the start is red, and at every step the neighbours of coloured nodes take the other colour."""

    spec = {  # noqa: RUF012
        "pos": Probe(Stage.INPUT, Location.NODE, Type.SCALAR),
        "start": Probe(Stage.INPUT, Location.NODE, Type.MASK_ONE),
        "adj": Probe(Stage.INPUT, Location.EDGE, Type.MASK),
        "colour_h": Probe(Stage.HINT, Location.NODE, Type.CATEGORICAL, num_classes=3),
        "colour": Probe(Stage.OUTPUT, Location.NODE, Type.CATEGORICAL, num_classes=3),
    }

    def draw(self, rng: np.random.RandomState, num_nodes: int) -> tuple[NumpyArray, int]:
        """The edges of a random tree, and where to start."""
        tree = nx.from_edgelist((node, rng.randint(node)) for node in range(1, num_nodes))
        return nx.to_numpy_array(tree, nodelist=range(num_nodes), dtype=bool), rng.randint(num_nodes)

    def inputs(self, adj: NumpyArray, start: int) -> tuple[NumpyArray, int, NumpyArray]:
        """The inputs in the order of the spec."""
        return np.arange(len(adj)) / len(adj), start, adj

    def run(self, adj: NumpyArray, start: int, trace: Trace) -> tuple[NumpyArray]:
        """The outputs; what is recorded are the hints."""
        colour = np.where(np.arange(len(adj)) == start, RED, NONE)
        while True:
            record(trace, colour)
            red, blue = (adj[colour == one].any(axis=0) & (colour == NONE) for one in (RED, BLUE))
            if not (red | blue).any():
                return (colour,)
            colour = np.where(red, BLUE, np.where(blue, RED, colour))


def main(steps: int = 300) -> None:
    """Train for so many steps, and colour a grid."""
    seed_everything(0, verbose=False)
    data, grid = CLRS30(TwoColouring()), nx.grid_2d_graph(4, 5)
    model = Reasoner(data.specs, PGN(hidden_dim=64))
    Trainer(max_steps=steps, limit_val_batches=0, accelerator="cpu", enable_checkpointing=False).fit(model, data)
    answer = model.run(TwoColouring(), (nx.to_numpy_array(grid, dtype=bool), 0))
    print(answer.outputs["colour"].values(), answer.check())


if __name__ == "__main__":
    auto_cli(main)
