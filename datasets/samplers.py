"""Where trajectories come from: dm-clrs's samplers. No other file of the library imports dm-clrs.

Source: ``clrs/_src/samplers.py`` of dm-clrs 2.0.3.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from nar.batch import Features, Feedback, NumpyArray
from nar.datasets.clrs30 import ALGORITHMS, min_num_nodes
from nar.errors import UserError


def sample(
    algorithm: str, *, num_nodes: int, num_samples: int, seed: int | Sequence[int], **sampler_args: Any
) -> Feedback[NumpyArray]:
    """Trajectories of an algorithm on random inputs, bit for bit those of dm-clrs.

    Args:
        algorithm: One of :data:`ALGORITHMS`.
        num_nodes: The sampler's ``length``. Segments always have 4 nodes, optimal search trees one more than this.
        num_samples: B, how many trajectories.
        seed: Of ``numpy.random.RandomState``: a number below 2³², or several for more than 32 bits.
        **sampler_args: For the sampler, such as ``p`` (edge densities to draw from) or ``length_needle``.

    Returns:
        Dicts of arrays by probe name: inputs and outputs [B, ...], hints [T, B, ...], all as dm-clrs makes them.

    Raises:
        UserError: If the algorithm is not known, the size too small for it, or an argument not one of its sampler's.

    Source:
        ``clrs.build_sampler(algorithm, num_samples, seed=seed, length=num_nodes, **sampler_args)``.
    """
    check_algorithms([algorithm])
    check_size(algorithm, num_nodes)
    if num_samples < 1:
        raise UserError(f"expected at least 1 sample of {algorithm}, given {num_samples}")
    words = list(seed) if isinstance(seed, Sequence) else int(seed)
    sampler, _ = _dm_clrs().build_sampler(algorithm, num_samples, seed=words, length=num_nodes, **sampler_args)
    known = [*inspect.signature(sampler._sample_data).parameters, "truncate_decimals"]
    unknown = sampler_args.keys() - set(known)  # dm-clrs leaves them out
    if unknown:
        raise UserError(f"the sampler of {algorithm} has no {', '.join(sorted(unknown))}; it has {', '.join(known)}")
    (inputs, hints, lengths), outputs = sampler.next()
    return Feedback(Features(_by_name(inputs), _by_name(hints), lengths), _by_name(outputs))


def check_algorithms(algorithms: Iterable[str]) -> None:
    """Raise a :class:`UserError` that lists the known algorithms if any of `algorithms` is not one of them."""
    unknown = [name for name in algorithms if name not in ALGORITHMS]
    if unknown:
        raise UserError(f"unknown algorithm {', '.join(unknown)}; known are {', '.join(ALGORITHMS)}")


def check_size(algorithm: str, num_nodes: int) -> None:
    """Raise a :class:`UserError` if `num_nodes` is below the smallest size of `algorithm`."""
    if num_nodes < min_num_nodes(algorithm):
        raise UserError(f"{algorithm} needs at least {min_num_nodes(algorithm)} nodes, given {num_nodes}")


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
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
