"""CLRS-Text: trajectories as a prompt and its answer, and back.

Source: Markeeva et al., "The CLRS-Text Algorithmic Reasoning Language Benchmark", 2024;
``clrs/_src/clrs_text/clrs_utils.py`` of dm-clrs 2.0.3, whose texts these are.
"""
# A text is four lines and an empty one: the algorithm, the inputs, the names of what is asked for, and the answer.

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle, islice
from typing import Any, NamedTuple

import numpy as np

from nar.batch import Feedback, NumpyArray
from nar.datasets.clrs30.known import KnownAlgorithm
from nar.datasets.clrs30.samplers import known_algorithm
from nar.datasets.engine.arguments import shown
from nar.errors import UserError
from nar.specs import MASKED, Stage, Type, at_stage

_INITIAL, TRACE, _END_OF_TRACE = ", initial_trace: ", "trace | ", " | "
_MAX_DIGITS = 18  # of an integer, with its sign, that any array can hold; there is none with more in a text
_NUMBER = r"-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?"
_ROW = rf"\[{_NUMBER}(?: {_NUMBER})*\]"
_VALUE = rf"(?:\[{_ROW}(?:, {_ROW})*\]|{_ROW}|{_NUMBER})"
_VALUES = rf"{_VALUE}(?:, {_VALUE})*"


class Text(NamedTuple):
    """The content of the text of one trajectory: inputs, and outputs with or without a trace.

    Attributes:
        algorithm: The algorithm's name.
        inputs: By probe name: a number, [N] or [N, N], an index in place of a mask_one.
        names: The names of what is asked for.
        trace: The states before the last, each with a value for every name; empty if the text has no trace.
        outputs: The values that are asked for, in the order of the names. Sorted orders are given as the keys in order.
    """

    algorithm: str
    inputs: Mapping[str, NumpyArray]
    names: tuple[str, ...]
    trace: Sequence[tuple[NumpyArray, ...]]
    outputs: tuple[NumpyArray, ...]

    @property
    def prompt(self) -> str:
        """The algorithm, its inputs, the first state of the trace if there is one, and the names."""
        inputs = ", ".join(f"{name}: {_written(value)}" for name, value in self.inputs.items())
        initial = f"{_INITIAL}{self._state(self.trace[0])}" if self.trace else ""
        names = f"{TRACE if self.trace else ''}{self._joined(self.names)}"
        return f"{self.algorithm}:\n{inputs}{initial}\n{names}:\n"

    @property
    def answer(self) -> str:
        """The other states of the trace if there is one, the outputs, and an empty line."""
        trace = f"{', '.join(map(self._state, self.trace[1:]))}{_END_OF_TRACE}" if self.trace else ""
        return f"{trace}{self._state(self.outputs)}\n\n"

    def _state(self, values: Iterable[NumpyArray]) -> str:
        return self._joined(map(_written, values))

    def _joined(self, parts: Iterable[str]) -> str:
        joined = ", ".join(parts)
        return f"({joined})" if self.trace and known_algorithm(self.algorithm).text.in_parentheses else joined


def _written(value: NumpyArray) -> str:
    return _written_list(value.tolist())


def _written_list(value: Any) -> str:
    if not isinstance(value, list):
        return str(value)
    separator = ", " if value and isinstance(value[0], list) else " "
    return f"[{separator.join(map(_written_list, value))}]"


def render(algorithm: str, feedback: Feedback[NumpyArray], *, hints: bool) -> list[tuple[str, str]]:
    """The prompt and the answer of each trajectory, string-equal to dm-clrs's; see :func:`texts`."""
    return [(text.prompt, text.answer) for text in texts(algorithm, feedback, hints=hints)]


def texts(algorithm: str, feedback: Feedback[NumpyArray], *, hints: bool) -> list[Text]:
    """The contents of the texts of trajectories, one for each.

    Args:
        algorithm: One of CLRS-30.
        feedback: Trajectories from :func:`nar.datasets.sample`, before the recipe; with ``truncate_decimals=3``
            numbers are as short as in the published texts.
        hints: Whether the answer begins with a trace of how the outputs come about. (That of segments_intersect never
            does.)

    Raises:
        UserError: If the algorithm is unknown, or a trace is asked for and the feedback has not all hints.

    Source:
        ``format_clrs_example(algorithm, sample, use_hints=hints)`` of dm-clrs.
    """
    known = known_algorithm(algorithm)
    (inputs, states, lengths), outputs = feedback
    traced = _traced_hints(known) if hints else ()
    if traced and len(states.get(traced[0], ())) < max(lengths):
        raise UserError(f'expected all {max(lengths)} hints of {algorithm} for its trace: draw with hints="all"')
    names = asked_for(known, hints=hints)
    written = []
    for row, length in enumerate(lengths):
        given = {name: inputs[name][row] for name in written_inputs(known)}
        trace = [tuple(states[name][time, row] for name in traced) for time in range(length if traced else 0)]
        ends = tuple(data[row] for data in outputs.values())
        if traced and known.text.ends_with_hints:
            ends = trace[-1]
        del trace[max(length - 1, 1) :]  # the last state is the outputs
        if is_sort(known):
            trace = [tuple(in_order(given["key"], pred) for pred in state) for state in trace]
            ends = tuple(in_order(given["key"], pred) for pred in ends)
        written.append(Text(algorithm, given, names, trace, ends))
    return written


def written_inputs(algorithm: KnownAlgorithm) -> list[str]:
    """The inputs that a text has: all but positions, and edges, which the weights tell."""
    return [name for name in at_stage(algorithm.spec, Stage.INPUT) if name not in ("pos", "adj")]


def _traced_hints(algorithm: KnownAlgorithm) -> tuple[str, ...]:
    """The hints of which a trace consists; segments_intersect has none."""
    named_after_outputs = (f"{name}_h" for name in _written_outputs(algorithm))
    return algorithm.text.traced or tuple(name for name in named_after_outputs if name in algorithm.spec)


def asked_for(algorithm: KnownAlgorithm, *, hints: bool) -> tuple[str, ...]:
    """The names in the third line of a text: those of the outputs, or of the hints that lead to them."""
    return (hints and algorithm.text.traced) or tuple(_written_outputs(algorithm))


def answer_of(
    algorithm: str, inputs: Mapping[str, NumpyArray], outputs: Mapping[str, NumpyArray], *, hints: bool = False
) -> str:
    """The answer that says these outputs of one instance, whatever they are; true ones give those of the true answer.

    Entries that CLRS-30 does not score are -1, as in true answers: the inputs tell where. With hints, in place of a
    trace there is nothing, and the last hints that are asked for are what the outputs say of them.

    Args:
        algorithm: One of CLRS-30.
        inputs: By probe name, without an axis for graphs: before the recipe or after it.
        outputs: Likewise, in the form of the data before the recipe: sorted orders are pointers to predecessors.
        hints: Whether the text that is answered has a trace.
    """
    known = known_algorithm(algorithm)
    names = asked_for(known, hints=hints)
    is_scored = known.text.scored(inputs) if known.text.scored else True
    ends = [np.where(is_scored, outputs[name], MASKED) for name in _written_outputs(known)]
    if is_sort(known):
        ends = [in_order(inputs["key"], pred) for pred in ends]
    state = tuple(islice(cycle(ends), len(names)))  # both bounds of a binary search end where it does
    return Text(algorithm, {}, names, [state] if hints and _traced_hints(known) else [], state).answer


def _written_outputs(algorithm: KnownAlgorithm) -> list[str]:
    """The outputs that a text has."""
    return list(at_stage(algorithm.spec, Stage.OUTPUT))


def is_sort(algorithm: KnownAlgorithm) -> bool:
    """Whether the algorithm puts keys in order."""
    return any(probe.type is Type.SHOULD_BE_PERMUTATION for probe in algorithm.spec.values())


def in_order(keys: NumpyArray, pred: NumpyArray) -> NumpyArray:
    """The keys in the order that pointers to predecessors give, [N]; the first node points at itself.

    Of pointers that are not a chain, the order ends with the nodes that none points at, or the first if there are none.
    """
    order = np.setdiff1d(np.arange(len(pred)), pred).tolist() or [0]  # no node points at the last one
    while len(order) < len(pred):
        order.append(int(pred[order[-1]]))
    ordered: NumpyArray = keys[order[::-1]]
    return ordered


def parse(text: str) -> Text:
    """What is written in a prompt that is followed by its answer; rendered again it is the same string.

    Raises:
        UserError: If it is not exactly what :func:`render` can give.
    """
    parsed = _parsed(text)
    if parsed is None or parsed.prompt + parsed.answer != text or len(parsed.outputs) != len(parsed.names):
        raise UserError(f"expected a prompt of {_algorithm_of(text)} and its answer, given {shown(text)}")
    return parsed


def parse_prompt(prompt: str) -> Text:
    """What is written in a prompt alone: inputs and names, the first state of a trace if there is one, and no outputs.

    Raises:
        UserError: If it is not exactly what :func:`render` can give.
    """
    parsed = _parsed(prompt)
    if parsed is None or parsed.prompt != prompt:
        raise UserError(f"expected a prompt of {_algorithm_of(prompt)}, without its answer, given {shown(prompt)}")
    return parsed


def _algorithm_of(text: str) -> str:
    return _checked_text(text).partition(":\n")[0]


def _checked_text(text: Any) -> str:
    if not isinstance(text, str):
        raise UserError(f"expected a text, given {shown(text)}")
    return text


def _parsed(text: str) -> Text | None:
    """The content of a text, which has to be rendered again to be compared with it; None if it has no such content.

    Raises:
        UserError: If the algorithm is unknown.
    """
    algorithm = _algorithm_of(text)
    known = known_algorithm(algorithm)
    try:
        parsed = _of_lines(algorithm, *text.split("\n")[1:])
    except (TypeError, ValueError):
        return None
    values = [*parsed.inputs.values(), *sum(parsed.trace, parsed.outputs)]
    is_one = (
        all(value.dtype.kind in "if" for value in values)
        and list(parsed.inputs) == written_inputs(known)
        and parsed.names == asked_for(known, hints=bool(parsed.trace))
        and all(len(state) == len(parsed.names) for state in parsed.trace)
    )
    return parsed if is_one else None


def _of_lines(algorithm: str, inputs: str, names: str, answer: str, *rest: str) -> Text:
    """The text of these lines if they are those of a text; else anything, or a TypeError or ValueError."""
    given, _, initial = inputs.partition(_INITIAL)
    asked = tuple(re.findall(r"\w+", names.removeprefix(TRACE)))
    by_name = {name: np.array(_read(value)) for name, value in re.findall(rf"(\w+): ({_VALUE})", given)}
    trace, _, outputs = answer.rpartition(_END_OF_TRACE)
    values = [np.array(value) for value in _read_all(f"{initial}, {trace}")]
    states = [tuple(values[start : start + len(asked)]) for start in range(0, len(values), len(asked))]
    return Text(algorithm, by_name, asked, states, tuple(map(np.array, _read_all(outputs))))


def _read_all(text: str) -> list[Any]:
    """The values in a text, as numbers and (nested) lists of numbers."""
    return [_read(value) for value in re.findall(_VALUE, text)]


def _read(value: str) -> Any:
    if value.startswith("[["):
        return [_read(row) for row in re.findall(_ROW, value)]
    if value.startswith("["):
        return [_read(number) for number in value[1:-1].split(" ")]
    is_integer = value.lstrip("-").isdigit() and len(value) <= _MAX_DIGITS
    return int(value) if is_integer else float(value)


class Scores(NamedTuple):
    """How right an answer is, each in [0, 1].

    Attributes:
        parse: 1 if the outputs can be read: numbers, lists and lists of lists as in a text, and nothing else.
        shape: 1 if besides there are as many as in the truth, and each of the same shape.
        clrs: The share of numbers that are right, of all outputs together; 0 if the shape is not. Entries that CLRS-30
            does not score, -1 in the text, count like any other.
        exact: 1 if the outputs are the same string as in the truth.
    """

    parse: float
    shape: float
    clrs: float
    exact: float


def scores(answer: str, truth: str) -> Scores:
    """How right the outputs of an answer are, next to those of the true one.

    Of both texts, only what comes before the first empty line counts, and of that, if there is a trace, only what comes
    after it, without white space around it.

    Raises:
        UserError: If the truth is not an answer of a text.

    Source:
        Bounsi et al., "Transformers meet Neural Algorithmic Reasoners", 2024, for the first three; Markeeva et al.
        (2024) for the last.
    """
    given, true = outputs_of(_checked_text(answer)), outputs_of(_checked_text(truth))
    true_values, values = _readable(true), _readable(given)
    if true_values is None:
        raise UserError(f"expected the answer of a text as truth, given {shown(truth)}")
    if values is None:
        return Scores(0.0, 0.0, 0.0, 0.0)
    if shape_of(values) != shape_of(true_values):
        return Scores(1.0, 0.0, 0.0, 0.0)
    right = [x == y for x, y in zip(flat(values), flat(true_values), strict=True)]
    return Scores(1.0, 1.0, sum(right) / len(right), float(given == true))


def outputs_of(answer: str) -> str:
    """The part of an answer that is scored."""
    return answer.partition("\n\n")[0].rpartition(_END_OF_TRACE)[2].strip()


def _readable(outputs: str) -> list[Any] | None:
    """The values if nothing else is in the text, else None."""
    return _read_all(outputs) if re.fullmatch(rf"{_VALUES}|\({_VALUES}\)", outputs) else None


def shape_of(value: Any) -> tuple[Any, ...]:
    """The shape of nested lists: of a list the shapes of its entries, of a number ()."""
    return tuple(map(shape_of, value)) if isinstance(value, list) else ()


def flat(value: Any) -> list[Any]:
    """The numbers in nested lists."""
    return [number for entry in value for number in flat(entry)] if isinstance(value, list) else [value]
