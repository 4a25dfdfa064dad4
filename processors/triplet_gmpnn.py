"""Triplet-GMPNN: gated message passing with messages over triplets of nodes.

Source: Ibarz et al., "A Generalist Neural Algorithmic Learner", LoG 2022; ``triplet_gmpnn`` of
``get_processor_factory`` in ``clrs/_src/processors.py`` of dm-clrs 2.0.3.
"""

from nar.processors.mpnn import MPNN
from nar.processors.reductions import AnyReduction


class TripletGMPNN(MPNN):
    """An :class:`MPNN` with triplets of width 8 and a gate, both of which can be turned off.

    Args:
        hidden_dim: H, the width of every feature and state.
        reduction: As in :class:`PGN`.
        reduction_in_evaluation: As in :class:`PGN`.
        triplet_dim: As in :class:`PGN`.
        triplet_reduction: As in :class:`PGN`.
        triplet_reduction_in_evaluation: As in :class:`PGN`.
        gated: As in :class:`PGN`; the published multi-task model is not gated.
        layer_norm: As in :class:`PGN`.
    """

    def __init__(
        self,
        hidden_dim: int = 128,
        *,
        reduction: AnyReduction = "max",
        reduction_in_evaluation: AnyReduction | None = None,
        triplet_dim: int = 8,
        triplet_reduction: AnyReduction = "max",
        triplet_reduction_in_evaluation: AnyReduction | None = None,
        gated: bool = True,
        layer_norm: bool = True,
    ) -> None:
        super().__init__(
            hidden_dim,
            reduction=reduction,
            reduction_in_evaluation=reduction_in_evaluation,
            triplet_dim=triplet_dim,
            triplet_reduction=triplet_reduction,
            triplet_reduction_in_evaluation=triplet_reduction_in_evaluation,
            gated=gated,
            layer_norm=layer_norm,
        )
