"""Weights of dm-clrs: the parameter trees of dm-haiku that it saves, for our models and back.

Only what is learnt is in them: whom a node hears, say, or how hints are fed back has to be known from elsewhere.

Source: ``save_model`` and ``restore_model`` in ``clrs/_src/baselines.py`` of dm-clrs 2.0.3; naming of dm-haiku 0.0.17.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor, nn

from nar.batch import NumpyArray
from nar.errors import UserError
from nar.files import check_file
from nar.model.decoders import TripletPointerDecoder
from nar.model.encoders import Encoder
from nar.model.unroll import EncodeProcessDecode
from nar.ops.linear import Linear
from nar.processor import Processor
from nar.training.pickles import LONGEST_NAME, MOST_INSTRUCTIONS, Array, RefusedError, read_data

Params = Mapping[str, Mapping[str, NumpyArray]]
"""The parameters of a dm-haiku model, by module and then by entry."""

PROCESSORS = {"PGN": "mpnn_aggr", "GAT": "gat_aggr", "GATv2": "gatv2_aggr", "MemNet": "memnet"}
_TAG = "_clrs_processor"
MEMNET_ENTRIES = {
    "query_embeddings": "query_biases",
    "story_embeddings": "stories_biases",
    "slot_biases": "memory_contents",
    "output_embeddings": "output_biases",
}
# The reference makes MemNet's layers in a method, and one before them that a single hop does not use.
MEMNET_LINEARS = {"project": "~_apply/linear_1", "answer": "~_apply/linear_2"}
HEADS = "net/~_construct_encoders_decoders"
LSTM = "net/processor_lstm/linear"
ENTRIES = {"weight": "w", "bias": "b"}
NORM_ENTRIES = {"weight": "scale", "bias": "offset"}


def haiku_names(model: EncodeProcessDecode) -> dict[str, tuple[str, str]]:
    """The module and the entry in dm-haiku's tree of every parameter of `model`, by our name.

    An algorithm's number in the tree is its place among ``model.heads``.

    Raises:
        UserError: If dm-clrs has no such processor, or no such encoder or decoder.
    """
    for module in model.modules():
        if isinstance(module, TripletPointerDecoder):
            raise UserError("dm-clrs has no edge_pointers 'triplets'")
        for name in ("num_frequencies", "difference_scales"):
            if isinstance(module, Encoder) and getattr(module, name):
                raise UserError(f"dm-clrs has no {name}")
    if model.reconstruction is not None:
        raise UserError("dm-clrs has no reconstruction of hints")
    if (messages := getattr(model.processor, "triplet_messages", "linear")) != "linear":
        raise UserError(f"dm-clrs has no triplet_messages {messages!r}")
    if getattr(model.processor, "forget", None) is not None:
        raise UserError("dm-clrs has no forget_gate")
    # dm-haiku names a module by its path: the methods in which it is made, "~" for a constructor's, and its own name,
    # with "_1", "_2", … behind it where others of that name were made before it in the same place.
    names = _processor_names(model.processor)
    for index, (algorithm, heads) in enumerate(model.heads.items()):
        for part, suffix in (
            ("input_encoder.linears", "enc"),
            ("hint_encoder.linears", "enc"),
            ("hint_decoders", "dec"),
            ("output_decoders", "dec"),
        ):
            probes = heads.get_submodule(part)
            for probe, module in probes.named_children():
                path = f"{HEADS}/algo_{index}_{probe}_{suffix}_linear"
                linears = [name for name, layer in module.named_modules() if isinstance(layer, Linear)]
                for i, name in enumerate(linears):
                    names |= _entries(f"heads.{algorithm}.{part}.{probe}.{name}", _numbered(path, i), ENTRIES)
    if model.lstm is not None:
        names |= _entries("lstm.gates", LSTM, ENTRIES)
    ours = [name for name, _ in model.named_parameters()]
    unknown = [name for name in ours if name not in names]
    if unknown:
        raise UserError(f"dm-clrs's {type(model.processor).__name__} has no parameter {unknown[0]}")
    return {name: names[name] for name in ours}


def _processor_names(processor: Processor) -> dict[str, tuple[str, str]]:
    """The module and the entry in dm-haiku's tree of every parameter of a processor, by our name.

    Its linear layers are registered in the order in which the reference makes them.
    """
    kinds = [PROCESSORS[cls.__name__] for cls in type(processor).__mro__ if cls.__name__ in PROCESSORS]
    if not kinds:
        raise UserError(f"dm-clrs has no processor {type(processor).__name__}; it has {', '.join(PROCESSORS)}")
    path = f"net/{kinds[0]}{_TAG}"
    if kinds == ["memnet"]:
        names = {f"processor.{name}": (path, entry) for name, entry in MEMNET_ENTRIES.items()}
        for name, linear in MEMNET_LINEARS.items():
            names |= _entries(f"processor.{name}", f"{path}/{linear}", ENTRIES)
        return names
    names = {}
    number = {"linear": 0, "mlp/~/linear_": 0}
    for name, layer in processor.named_modules(prefix="processor"):
        if isinstance(layer, nn.LayerNorm):
            names |= _entries(name, f"{path}/layer_norm", NORM_ENTRIES)
        elif isinstance(layer, Linear):
            # Layers of an MLP have a numbering of their own, which begins with "_0"; others are numbered together.
            in_mlp = isinstance(processor.get_submodule(name.split(".")[1]), nn.Sequential)
            kind = "mlp/~/linear_" if in_mlp else "linear"
            module = f"{path}/{kind}{number[kind]}" if in_mlp else _numbered(f"{path}/{kind}", number[kind])
            number[kind] += 1
            names |= _entries(name, module, ENTRIES)
    return names


def _numbered(path: str, number: int) -> str:
    """dm-haiku's name of the module that is made as number `number` under the same name."""
    return f"{path}_{number}" if number else path


def _entries(ours: str, module: str, entries: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    return {f"{ours}.{name}": (module, entry) for name, entry in entries.items()}


def from_haiku(params: Params, model: EncodeProcessDecode) -> dict[str, Tensor]:
    """dm-haiku's parameters by our names and in our layout, for ``model.load_state_dict``.

    Names of processors may be those of dm-clrs before 2.0, which had no tag.

    Raises:
        UserError: If an entry is missing, left over or of another shape, naming it.
    """
    names = haiku_names(model)
    tagged = {_tagged(module): entries for module, entries in params.items()}
    params = tagged if len(tagged) == len(params) else params
    theirs = {(module, entry) for module, entries in params.items() for entry in entries}
    missing, extra = set(names.values()) - theirs, theirs - set(names.values())
    if missing or extra:
        parts = [
            f"{what} {len(some)}, such as {_shown(' '.join(min(some)))}"
            for what, some in (("lack", missing), ("have in excess", extra))
            if some
        ]
        raise UserError(
            f"the weights do not fit the configured model: of its {len(names)} arrays they {' and '.join(parts)}"
        )
    state = {}
    for name, parameter in model.named_parameters():
        module, entry = names[name]
        array = np.asarray(params[module][entry])
        expected = parameter.shape[::-1] if entry == "w" else parameter.shape
        if array.shape != expected:
            raise UserError(
                f"the weights do not fit the configured model: {module} {entry} has the shape {list(array.shape)}, "
                f"expected {list(expected)}"
            )
        state[name] = torch.tensor(_in_other_layout(entry, array), dtype=parameter.dtype)
    return state


def _tagged(module: str) -> str:
    """The name that a module of dm-clrs has today."""
    net, *path = module.split("/")
    if net == "net" and path and path[0] in PROCESSORS.values():
        path[0] += _TAG
    return "/".join([net, *path])


def to_haiku(model: EncodeProcessDecode) -> dict[str, dict[str, NumpyArray]]:
    """The parameters of `model` as dm-haiku has them, in float32."""
    params: dict[str, dict[str, NumpyArray]] = {}
    names = haiku_names(model)
    for name, parameter in model.named_parameters():
        module, entry = names[name]
        array = parameter.detach().cpu().float().numpy()
        params.setdefault(module, {})[entry] = _in_other_layout(entry, array).copy()
    return params


def _in_other_layout(entry: str, array: NumpyArray) -> NumpyArray:
    """An array in the layout of the other library: dm-haiku's weights are [in, out], torch's [out, in]."""
    return array.T if entry == "w" else array


def read_pickle(path: str | Path) -> Params:
    """The parameters in a file of dm-clrs's ``save_model``.

    The file may hold arrays of numbers, of NumPy's or JAX's, plain containers, the mappings of earlier dm-haiku, and
    the optimiser's named tuples, which are left out. Nothing that it names is imported or called.

    Raises:
        UserError: If there is no such file, it is damaged, or it holds anything else, naming it.
    """
    try:
        check_file(path)
        with open(path, "rb") as file:
            content = read_data(file)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except MemoryError as error:
        raise UserError(f"{path} needs more memory than there is") from error
    except RefusedError as error:
        raise UserError(f"{path} holds {error}; expected arrays of numbers and plain containers alone") from error
    except Exception as error:  # what a file of any other kind makes the unpickler raise has no end
        raise UserError(f"{path} is damaged or no pickle at all: expected a file saved by dm-clrs") from error
    params = content.get("params") if isinstance(content, dict) else None
    if not isinstance(params, dict) or not params:
        raise UserError(f"{path} holds no parameters: expected a file saved by dm-clrs, a dict with 'params'")
    if sum(len(entries) for entries in params.values() if isinstance(entries, dict)) > MOST_INSTRUCTIONS:
        raise UserError(f"{path} names the same arrays again and again; expected a file saved by dm-clrs")
    return {module: _arrays(path, module, entries) for module, entries in params.items()}


def _arrays(path: str | Path, module: object, entries: object) -> dict[str, NumpyArray]:
    """The arrays of one module of a file, by entry; anything else there is refused."""
    if not isinstance(module, str) or not isinstance(entries, dict):
        raise UserError(
            f"{path} holds {type(entries).__name__} at {_shown(module)}; expected a dict of arrays at a name"
        )
    arrays = {}
    for entry, value in entries.items():
        array = value.array if isinstance(value, Array) else None
        if not isinstance(entry, str) or array is None or array.dtype.kind != "f":
            found = type(value).__name__ if array is None else f"an array of {array.dtype}"
            raise UserError(
                f"{path} holds {found} at {_shown(module)} {_shown(entry)}; expected an array of floats at a name"
            )
        arrays[entry] = array
    return arrays


def _shown(name: object) -> str:
    """A name that a file holds, cut to what fits into a message."""
    return repr(name)[:LONGEST_NAME]


def write_pickle(file: IO[bytes], params: Params) -> None:
    """Write `params` for dm-clrs's ``restore_model``, with no state of the optimiser: None."""
    pickle.dump({"params": {module: dict(entries) for module, entries in params.items()}, "opt_state": None}, file)
