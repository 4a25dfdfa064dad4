"""Message passing between all pairs of nodes.

Source: Gilmer et al., "Neural Message Passing for Quantum Chemistry", ICML 2017; ``MPNN`` in
``clrs/_src/processors.py`` of dm-clrs 2.0.3.
"""

from nar.processors.pgn import PGN
from nar.processors.reductions import AnyReduction


class MPNN(PGN):
    """A :class:`PGN` in which every node hears every node, itself included; `adj` is not looked at.

    Args:
        hidden_dim: H, the width of every feature and state.
        reduction: As in :class:`PGN`.
        reduction_in_evaluation: As in :class:`PGN`.
        triplet_dim: As in :class:`PGN`.
        triplet_reduction: As in :class:`PGN`.
        triplet_reduction_in_evaluation: As in :class:`PGN`.
        gated: As in :class:`PGN`.
        layer_norm: As in :class:`PGN`.
    """

    def __init__(
        self,
        hidden_dim: int = 128,
        *,
        reduction: AnyReduction = "max",
        reduction_in_evaluation: AnyReduction | None = None,
        triplet_dim: int = 0,
        triplet_reduction: AnyReduction = "max",
        triplet_reduction_in_evaluation: AnyReduction | None = None,
        gated: bool = False,
        layer_norm: bool = True,
    ) -> None:
        super().__init__(
            hidden_dim,
            senders="all",
            reduction=reduction,
            reduction_in_evaluation=reduction_in_evaluation,
            triplet_dim=triplet_dim,
            triplet_reduction=triplet_reduction,
            triplet_reduction_in_evaluation=triplet_reduction_in_evaluation,
            gated=gated,
            layer_norm=layer_norm,
        )
