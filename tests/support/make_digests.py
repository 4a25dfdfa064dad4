"""Write digests of what dm-clrs draws: ``python tests/support/make_digests.py``, which takes half a minute."""

import hashlib
import json

import numpy as np
from cases import GOLDENS

from nar.batch import Feedback, NumpyArray
from nar.datasets import ALGORITHMS, sample
from nar.datasets.clrs30.dm_clrs import sample_from_dm_clrs

STRING_MATCHERS = ("naive_string_matcher", "kmp_matcher")

SIZES = [(name, size) for name in ALGORITHMS for size in (4, 16, 64, *((80,) if name in STRING_MATCHERS else ()))]
"""Of each algorithm; of string matchers also that of the official test split."""
PATH = GOLDENS / "digests.json"
WITH_SINES = ("graham_scan", "jarvis_march")  # of which the last bit is not the same on every processor


def digest(algorithm: str, feedback: Feedback[NumpyArray]) -> str:
    """The SHA-256 of names, types, shapes and bits, in order; of floats that depend on sines in single precision."""
    (inputs, hints, lengths), outputs = feedback
    state = hashlib.sha256()
    for stage in (inputs, hints, {"lengths": lengths}, outputs):
        for name, data in stage.items():
            state.update(f"{name} {data.dtype} {data.shape}".encode())
            is_rounded = algorithm in WITH_SINES and data.dtype.kind == "f"
            state.update((data.astype(np.float32) if is_rounded else data).tobytes())
    return state.hexdigest()


def read_digests() -> dict[str, dict[int, str]]:
    """The digest of each algorithm at each size."""
    digests = json.loads(PATH.read_text())
    return {algorithm: {int(size): text for size, text in by_size.items()} for algorithm, by_size in digests.items()}


def drawn(algorithm: str, num_nodes: int, *, by_dm_clrs: bool) -> Feedback[NumpyArray]:
    """What is digested."""
    draw = sample_from_dm_clrs if by_dm_clrs else sample
    return draw(algorithm, num_nodes=num_nodes, num_samples=4, seed=3)


def main() -> None:
    """Write all of them."""
    digests: dict[str, dict[int, str]] = {name: {} for name in ALGORITHMS}
    for name, size in SIZES:
        digests[name][size] = digest(name, drawn(name, size, by_dm_clrs=True))
    PATH.write_text(json.dumps(digests, indent=1) + "\n")


if __name__ == "__main__":
    main()
