"""Chunks of trajectories: windows of equal length on a stream of samples that follow one another.

A window may hold the end of one sample, whole samples and the beginning of another. Each of these pieces is a segment:
it starts from its own first hint and a zero hidden state, and no gradient leaves it.

Source: Ibarz et al., "A Generalist Neural Algorithmic Learner", LoG 2022; ``chunkify`` in ``clrs/_src/dataset.py`` of
dm-clrs 2.0.3.
"""
# Axes: B samples, M segments, T time, W windows, C slices of a window.

import numpy as np

from nar.batch import Features, Feedback, NumpyArray


def chunks(
    feedback: Feedback[NumpyArray], chunk_length: int, num_windows: int, rng: np.random.RandomState
) -> tuple[Feedback[NumpyArray], NumpyArray]:
    """Segments of samples in evenly spaced windows that do not overlap, of which the first is put at random.

    The last sample is followed by the first again, so that a window holds every time slice with equal probability. (If
    there is nothing to predict in any window, which takes a `chunk_length` of 2, they are put at random once more.)
    Where all samples are equally long and as many as the windows, or a multiple, the windows are in step: all hold the
    same times, as in dm-clrs, and outputs are scored in either all of them or none.

    Args:
        feedback: Whole samples, with at least ``num_windows * chunk_length`` time slices together.
        chunk_length: C, at least 2.
        num_windows: W.
        rng: Draws where the windows are.

    Returns:
        As :func:`cut`.

    Raises:
        ValueError: If there are fewer time slices than the windows hold.
    """
    num_slices = int(feedback.features.lengths.sum())
    if num_slices < num_windows * chunk_length:
        raise ValueError(f"expected at least {num_windows} · {chunk_length} time slices, given {num_slices}")
    while True:
        segments, ended = cut(feedback, window_starts(num_slices, num_windows, rng), chunk_length)
        if len(ended):
            return segments, ended


def window_starts(num_slices: int, num_windows: int, rng: np.random.RandomState) -> NumpyArray:
    """Where to put evenly spaced windows on a circle of time slices: each is anywhere with equal probability, [W]."""
    # In units of 1 / W of a slice, so that the distance of the windows is a whole number.
    first = rng.randint(num_slices * num_windows)
    starts: NumpyArray = (first + num_slices * np.arange(num_windows)) // num_windows % num_slices
    return starts


def cut(
    feedback: Feedback[NumpyArray], starts: NumpyArray, chunk_length: int
) -> tuple[Feedback[NumpyArray], NumpyArray]:
    """Segments of samples, window by window.

    A segment of one time slice has no second hint to predict and is left out, unless it is all of its sample.

    Args:
        feedback: Whole samples, [B, ...], of which the last is followed by the first again.
        starts: Each window's first time slice, counted from the first sample's beginning, [W].
        chunk_length: C.

    Returns:
        Inputs and outputs of each segment's sample, [M, ...], its own hints, [T, M, ...], and the number of them; and
        whether it contains its sample's end, which alone is where outputs are scored, [M].
    """
    (inputs, hints, lengths), outputs = feedback
    lengths = lengths.astype(np.int64)
    ends = lengths.cumsum()
    slices = (starts[:, None] + np.arange(chunk_length)) % ends[-1]
    samples = np.searchsorted(ends, slices, side="right")
    times = slices - (ends - lengths)[samples]
    begins = times == 0
    begins[:, 0] = True

    first = np.flatnonzero(begins)  # of each segment's slices, in all windows
    sample, start = samples.ravel()[first], times.ravel()[first]
    number = np.diff(first, append=slices.size)
    kept = (number > 1) | (lengths[sample] == 1)
    sample, start, number = sample[kept], start[kept], number[kept]

    time = np.arange(number.max(initial=1))[:, None]
    is_padding = time >= number
    source = np.where(is_padding, 0, start + time)

    def segments(hint: NumpyArray) -> NumpyArray:
        data: NumpyArray = hint[source, sample]
        data[is_padding] = 0
        return data

    features = Features(
        {name: data[sample] for name, data in inputs.items()},
        {name: segments(hint) for name, hint in hints.items()},
        number,
    )
    return Feedback(features, {name: data[sample] for name, data in outputs.items()}), start + number == lengths[sample]
