"""dm-clrs as the oracle: its model built on our settings, with its weights copied into ours."""

from typing import Any

import clrs
import jax
import numpy as np
import torch
from torch import Tensor, nn

from nar.batch import Feedback, NumpyArray
from nar.datasets.recipe import recipe_spec
from nar.model import EncodeProcessDecode

PROCESSOR = "net/mpnn_aggr_clrs_processor"
HEADS = "net/~_construct_encoders_decoders"
PGN_LINEARS = ("message_receiver", "message_sender", "message_edge", "message_graph", "update_node", "update_message")
TRIPLET_LINEARS = ("node_1", "node_2", "node_3", "edge_1", "edge_2", "edge_3", "graph", "output")
GATE_LINEARS = ("node", "message", "output")


def data_points(algorithm: str, probes: dict[str, NumpyArray]) -> tuple[Any, ...]:
    """Our dict of arrays as dm-clrs's tuple of data points."""
    spec = recipe_spec(algorithm)
    return tuple(
        clrs.DataPoint(name, str(spec[name].location), str(spec[name].type), np.asarray(data))
        for name, data in probes.items()
    )


def their_feedback(algorithm: str, feedback: Feedback[NumpyArray]) -> Any:
    """Our feedback in dm-clrs's form."""
    (inputs, hints, lengths), outputs = feedback
    features = clrs.Features(data_points(algorithm, inputs), data_points(algorithm, hints), lengths)
    return clrs.Feedback(features, data_points(algorithm, outputs))


def their_model(algorithm: str, kind: str, hidden_dim: int, feedback: Any, **settings: Any) -> Any:
    """A dm-clrs model of one algorithm with random weights."""
    spec = {name: (str(p.stage), str(p.location), str(p.type)) for name, p in recipe_spec(algorithm).items()}
    factory = clrs.get_processor_factory(kind, use_ln=True, nb_triplet_fts=8, nb_heads=1)
    common = {"encode_hints": True, "decode_hints": True, "encoder_init": "xavier_on_scalars", **settings}
    model = clrs.models.BaselineModel(
        spec, feedback, processor_factory=factory, hidden_dim=hidden_dim, hint_repred_mode="soft", **common
    )
    model.init(feedback.features, 1)
    # Biases start at 0 and norms at 1, where a mix-up of two would not be seen.
    rng = np.random.RandomState(0)
    model.params = jax.tree_util.tree_map(lambda x: x + 0.1 * rng.normal(size=x.shape).astype(x.dtype), model.params)
    return model


def copy_weights(params: Any, model: EncodeProcessDecode, algorithm: str) -> dict[str, Tensor]:
    """Copy dm-clrs's parameters into `model`; by our parameter name, their module and entry."""
    names = haiku_names(model, algorithm)
    ours = dict(model.named_parameters())
    assert set(ours) == set(names), set(ours) ^ set(names)
    theirs = {(module, entry) for module, entries in params.items() for entry in entries}
    assert theirs == set(names.values()), theirs ^ set(names.values())
    with torch.no_grad():
        for name, (module, entry) in names.items():
            ours[name].copy_(from_haiku(params[module][entry]))
    return names


def from_haiku(array: Any) -> Tensor:
    """A parameter of dm-haiku in our layout."""
    return torch.from_numpy(np.array(array).T.copy())


def haiku_names(model: EncodeProcessDecode, algorithm: str) -> dict[str, tuple[str, str]]:
    """Each parameter's module and entry in dm-haiku's tree."""
    modules: dict[str, str] = {}
    counter = iter(range(100))

    def linear() -> str:
        i = next(counter)
        return f"{PROCESSOR}/linear" + (f"_{i}" if i else "")

    processor = model.processor
    for name in PGN_LINEARS:
        modules[f"processor.{name}"] = linear()
    if getattr(processor, "triplets", None) is not None:
        for name in TRIPLET_LINEARS:
            modules[f"processor.triplets.{name}"] = linear()
    modules["processor.message_mlp.1"] = f"{PROCESSOR}/mlp/~/linear_0"
    modules["processor.message_mlp.3"] = f"{PROCESSOR}/mlp/~/linear_1"
    if getattr(processor, "gate", None) is not None:
        for name in GATE_LINEARS:
            modules[f"processor.gate.{name}"] = linear()
    heads = model.heads[algorithm]
    for part in ("input_encoder", "hint_encoder"):
        for name, linears in getattr(heads, part).linears.items():
            for i in range(len(linears)):
                modules[f"heads.{algorithm}.{part}.linears.{name}.{i}"] = f"{HEADS}/algo_0_{name}_enc_linear" + "_1" * i
    for part in ("hint_decoders", "output_decoders"):
        for name, decoder in getattr(heads, part).items():
            linears = [n for n, m in decoder.named_modules() if isinstance(m, nn.Linear)]
            for i, layer in enumerate(linears):
                path = f"{HEADS}/algo_0_{name}_dec_linear" + (f"_{i}" if i else "")
                modules[f"heads.{algorithm}.{part}.{name}.{layer}"] = path
    if model.lstm is not None:
        modules["lstm.gates"] = "net/processor_lstm/linear"
    names = {
        f"{ours}.{a}": (theirs, b) for ours, theirs in modules.items() for a, b in (("weight", "w"), ("bias", "b"))
    }
    names["processor.norm.weight"] = (f"{PROCESSOR}/layer_norm", "scale")
    names["processor.norm.bias"] = (f"{PROCESSOR}/layer_norm", "offset")
    return names


def without_noise(monkeypatch: Any) -> None:
    """Make dm-clrs's Sinkhorn operator draw no noise."""
    from clrs._src import decoders

    original = decoders.log_sinkhorn

    def quiet(x: Any, steps: int, temperature: float, zero_diagonal: bool, noise_rng_key: Any) -> Any:
        return original(x, steps, temperature, zero_diagonal, None)

    monkeypatch.setattr(decoders, "log_sinkhorn", quiet)
