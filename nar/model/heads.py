"""The encoders and decoders of an algorithm.

Source: ``_construct_encoders_decoders`` in ``clrs/_src/nets.py`` of dm-clrs 2.0.3.
"""

from typing import Any, Literal

from torch import nn

from nar.model.decoders import make_decoder
from nar.model.encoders import Encoder, is_edge_pointer
from nar.model.reconstruction import HintNetwork, Reconstruction
from nar.processor import Processor
from nar.specs import Spec, Stage, at_stage

HintMode = Literal["encoded_decoded", "decoded_only", "none"]
EdgePointers = Literal["pairs", "triplets"]


class Heads(nn.Module):
    """The encoders and decoders of one algorithm.

    Args:
        spec: The algorithm's probes.
        processor: Tells the widths.
        hint_mode: As in :class:`nar.model.unroll.EncodeProcessDecode`.
        edge_pointers: As there.
        reconstruction: As there.
        num_frequencies: As there.
        difference_scales: As there.
    """

    def __init__(
        self,
        spec: Spec,
        processor: Processor,
        hint_mode: HintMode,
        edge_pointers: EdgePointers = "pairs",
        reconstruction: Reconstruction | None = None,
        num_frequencies: int = 0,
        difference_scales: int = 0,
    ) -> None:
        super().__init__()
        hidden_dim = processor.hidden_dim
        edge_dim = (2 if processor.has_edge_states else 1) * hidden_dim
        self.inputs = at_stage(spec, Stage.INPUT)
        self.hints = at_stage(spec, Stage.HINT)
        self.outputs = at_stage(spec, Stage.OUTPUT)
        fed_back = self.hints if hint_mode == "encoded_decoded" else {}
        by_triplets = edge_pointers == "triplets"
        triplet_dim = processor.triplet_dim if by_triplets else 0
        self.input_encoder = Encoder(
            self.inputs,
            hidden_dim,
            triplet_dim,
            num_frequencies=num_frequencies,
            difference_scales=difference_scales,
        )
        # No differences of hints: those of predictions that are a little off are as sharp, and lead training astray.
        self.hint_encoder = Encoder(fed_back, hidden_dim, triplet_dim, num_frequencies=num_frequencies)
        self.hint_network = HintNetwork(fed_back, hidden_dim) if fed_back and reconstruction is not None else None
        num_pointers = sum(map(is_edge_pointer, (*self.inputs.values(), *fed_back.values()))) if by_triplets else None

        def decoders(probes: Spec) -> nn.ModuleDict:
            options: Any = {"masked": processor.masks_decoders, "num_pointers": num_pointers}
            return nn.ModuleDict(
                {name: make_decoder(probe, hidden_dim, edge_dim, **options) for name, probe in probes.items()}
            )

        self.hint_decoders = decoders({} if hint_mode == "none" else self.hints)
        self.output_decoders = decoders(self.outputs)
