"""dm-clrs's own samplers, as another source of trajectories. No other file of the library imports dm-clrs.

Source: ``clrs/_src/samplers.py`` of dm-clrs 2.0.3.
"""

import importlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from nar.batch import Features, Feedback, NumpyArray, size_of
from nar.datasets.clrs30.known import KnownAlgorithm
from nar.datasets.clrs30.samplers import check_request, known_algorithm
from nar.datasets.engine.arguments import plain, shown
from nar.datasets.engine.trace import DTYPES
from nar.errors import UserError
from nar.specs import MASKED, Location, Probe, Spec, Type


def sample_from_dm_clrs(
    algorithm: str | KnownAlgorithm, *, num_nodes: int, num_samples: int, seed: int | Sequence[int], **args: Any
) -> Feedback[NumpyArray]:
    """What dm-clrs draws, in the form of :func:`nar.datasets.sample`, which refuses the same."""
    algorithm = algorithm if isinstance(algorithm, KnownAlgorithm) else known_algorithm(algorithm)
    args = {name: plain(value) for name, value in args.items()}
    check_request(algorithm, num_nodes, num_samples, seed, args)
    words: Any = list(seed) if isinstance(seed, Sequence) else int(seed)
    sampler, _ = _dm_clrs().build_sampler(algorithm.name, num_samples, seed=words, length=num_nodes, **args)
    (inputs, hints, lengths), outputs = sampler.next()
    feedback = Feedback(Features(_by_name(inputs), _by_name(hints), lengths), _by_name(outputs))
    return compact(algorithm.spec, feedback)


def compact(spec: Spec, feedback: Feedback[NumpyArray]) -> Feedback[NumpyArray]:
    """Trajectories in dm-clrs's dense form as indices and small integers (see :class:`nar.specs.Type`)."""
    (inputs, hints, lengths), outputs = feedback.map(np.asarray).map_probes(
        lambda name, data: _compact(spec[name], data)
    )
    return Feedback(Features(inputs, hints, lengths.astype(np.int64)), outputs)


def to_dm_clrs(spec: Spec, feedback: Feedback[NumpyArray]) -> Feedback[NumpyArray]:
    """Trajectories in the form and with the dtypes that dm-clrs gives them; the opposite of :func:`compact`."""
    if not isinstance(spec, Mapping) or not isinstance(feedback, Feedback):
        raise UserError(f"expected a spec and trajectories, given {shown(spec)} and {shown(feedback)}")
    (inputs, hints, _), outputs = feedback
    unknown = {*inputs, *hints, *outputs} - {*spec}
    if unknown:
        raise UserError(f"expected trajectories with the probes {', '.join(spec)}, given {', '.join(sorted(unknown))}")
    num_nodes = size_of(spec, inputs)
    (inputs, hints, lengths), outputs = feedback.map_probes(lambda name, data: _to_dm_clrs(spec[name], data, num_nodes))
    padding = np.arange(max(map(len, hints.values()), default=0))[:, None] >= lengths
    hints = {name: data.astype(np.float64) for name, data in hints.items()}
    for data in hints.values():
        data[padding] = 0
    return Feedback(Features(inputs, hints, lengths.astype(np.float64)), outputs)


def _compact(probe: Probe, data: NumpyArray) -> NumpyArray:
    match probe.type:
        case Type.SCALAR:
            return data
        case Type.CATEGORICAL:
            data = np.where((data == MASKED).any(axis=-1), MASKED, data.argmax(axis=-1))
        case Type.MASK_ONE:
            data = data.argmax(axis=-1)
        case Type.PERMUTATION_POINTER:
            data = data.argmax(axis=-1)
    return data.astype(DTYPES[probe.type])


def _to_dm_clrs(probe: Probe, data: NumpyArray, num_nodes: int) -> NumpyArray:
    match probe.type, probe.location:
        case Type.SCALAR, _:
            return data
        case Type.MASK, Location.GRAPH:
            return data.astype(np.int64)
        case Type.MASK, _:
            return data.astype(np.float64)
        case Type.MASK_ONE, _:
            return np.eye(num_nodes)[data]
        case Type.PERMUTATION_POINTER, _:
            return np.eye(num_nodes, dtype=np.float32)[data]
        case Type.CATEGORICAL, _:
            unscored = np.where(np.eye(probe.num_classes)[-1:], MASKED, 0.0)
            return np.concatenate([np.eye(probe.num_classes), unscored])[data]
        case _, Location.EDGE:
            return data.astype(np.float64)
        case _:
            return data.astype(np.int64)


def _by_name(probes: Any) -> dict[str, NumpyArray]:
    return {probe.name: np.asarray(probe.data) for probe in probes}


@cache
def _dm_clrs() -> Any:
    """dm-clrs, imported when first needed and without the noise that its dependencies make."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the samplers compute with NumPy; no accelerator is to be taken
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        with _silent_stderr():
            logging = importlib.import_module("absl.logging")
            clrs = importlib.import_module("clrs")
    except ImportError as error:
        raise UserError(f"CLRS-30 trajectories come from dm-clrs, which cannot be imported: {error}") from error
    logging.set_verbosity(logging.ERROR)
    return clrs


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Send what is written to file descriptor 2 to nowhere: TensorFlow's start-up lines come from C++."""
    sys.stderr.flush()
    saved = os.dup(2)
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
