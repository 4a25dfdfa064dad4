"""The graph that a text of CLRS-Text is about, from its prompt alone."""
# Axes: B graphs, N nodes.

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from torch import Tensor

from nar.batch import Features, Feedback, NumpyArray
from nar.datasets.clrs30.recipe import apply_recipe
from nar.datasets.clrs30.samplers import known_algorithm, run_on
from nar.datasets.engine.algorithm import Hints
from nar.datasets.engine.checks import shape_of
from nar.datasets.text.format import Text, parse_prompt, render, texts
from nar.datasets.text.stream import TextSample, sample_graph
from nar.errors import UserError


def graph_of(prompt: str) -> tuple[str, Features[Tensor]]:
    """The algorithm that a prompt is of, and the features of its graph as a reasoner is given them.

    The features are those of a batch of one, to the bit those of the :class:`~nar.datasets.text.TextSample` that the
    prompt is from: the inputs after the recipe, positions evenly spaced, the first hints, and as the length that of the
    classical algorithm's trajectory. Of several, :func:`nar.batch.grouped` makes what a hybrid takes.

    Args:
        prompt: Three lines, with a trace's first state or without: the ``question`` of a published text.

    Raises:
        UserError: If it is not the prompt of one of the 30 algorithms, or its inputs are not what that takes.
    """
    return sample_graph(text_sample(prompt))


def text_sample(prompt: str, answer: str | None = None) -> TextSample:
    """A prompt and its answer with the graph that the prompt is about; the size is what the inputs say.

    Args:
        prompt: As for :func:`graph_of`.
        answer: The true answer; that of the classical algorithm if not given.

    Raises:
        UserError: As :func:`graph_of`.
    """
    text = parse_prompt(prompt)
    feedback = _run(text)
    features = apply_recipe(text.algorithm, feedback).features.first_hints()
    if answer is None:
        ((_, answer),) = render(text.algorithm, feedback, hints=bool(text.trace))
    return TextSample(text.algorithm, _size_asked_for(text), prompt, answer, features)


def _run(text: Text) -> Feedback[NumpyArray]:
    """The trajectory of the algorithm on the inputs of a prompt.

    Raises:
        UserError: If the inputs are not what it takes, or a trace does not begin as it does.
    """
    known = known_algorithm(text.algorithm)
    num_nodes = _num_nodes(text)
    for name, value in text.inputs.items():
        if value.shape != (expected := shape_of(known.spec[name], num_nodes)):
            raise UserError(f"{known.name}: expected {name} in shape {expected}, given {value.shape}")
    inputs = {name: value if value.ndim else value.item() for name, value in text.inputs.items()}
    given = known.text.given(inputs) if known.text.given else tuple(inputs.values())
    takes_all = replace(known, take=known.text.take or known.take)
    try:
        hints: Hints = "all" if text.trace else "first"
        feedback = run_on(takes_all, [given], num_nodes=_size_asked_for(text), hints=hints)
    except UserError as error:
        raise UserError(str(error).replace(", input 0: ", ": ", 1)) from error
    _check_equal(text.algorithm, text.inputs, {name: feedback.features.inputs[name][0] for name in text.inputs})
    if text.trace:
        (true,) = texts(text.algorithm, feedback, hints=True)
        begins = dict(zip(text.names, text.trace[0], strict=True))
        _check_equal(f"{text.algorithm}, initial_trace", begins, dict(zip(text.names, true.trace[0], strict=True)))
    return feedback


def _check_equal(what: str, given: Mapping[str, NumpyArray], true: Mapping[str, NumpyArray]) -> None:
    """Raise a :class:`UserError` that names the first value of a prompt that is not as the algorithm has it."""
    for name, value in given.items():
        if not np.array_equal(value, true[name]):
            raise UserError(f"{what}: expected {name} {_in_words(true[name])}, given {_in_words(value)}")


def _in_words(value: NumpyArray) -> str:
    return f"{value.tolist()}" if value.size <= 20 else f"in shape {value.shape} and another"


def _size_asked_for(text: Text) -> int:
    """The size that a sampler is asked for to draw such inputs."""
    num_nodes = _num_nodes(text)
    return num_nodes - 1 if text.algorithm == "optimal_bst" else num_nodes  # which has a node more than there are keys


def _num_nodes(text: Text) -> int:
    return max(len(np.atleast_1d(value)) for value in text.inputs.values())
