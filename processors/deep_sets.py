"""Deep sets: every node by itself.

Source: Zaheer et al., "Deep Sets", NeurIPS 2017; ``DeepSets`` in ``clrs/_src/processors.py`` of dm-clrs 2.0.3.
"""

from nar.processors.pgn import PGN


class DeepSets(PGN):
    """A :class:`PGN` in which every node hears itself alone; `adj` is not looked at.

    Args:
        hidden_dim: H, the width of every feature and state.
        layer_norm: As in :class:`PGN`.
    """

    def __init__(self, hidden_dim: int = 128, *, layer_norm: bool = True) -> None:
        super().__init__(hidden_dim, senders="self", layer_norm=layer_norm)
