"""Pickles of arrays, read without doing what they say: nothing that they name is imported, called or made.

A pickle is a program. The few instructions that data need are carried out here, on plain containers; where it calls
functions of NumPy or JAX that make arrays, the array is made here. Time and memory are proportional to the file's size.

Source: ``pickletools`` of Python; ``__reduce__`` of arrays in NumPy 1 and 2 and in JAX, of mappings in dm-haiku.
"""

import mmap
import pickletools
import re
from typing import IO, Any

import numpy as np

from nar.batch import NumpyArray

MOST_INSTRUCTIONS = 2**20
"""How many instructions a pickle has at most; that of a model of all algorithms of CLRS-30 has some 10⁵."""
LONGEST_NAME = 100
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_FUNCTIONS = {
    "numpy.ndarray": "a class",
    "numpy.dtype": "a dtype",
    "numpy.core.multiarray._reconstruct": "an empty array",  # numpy._core in NumPy 2
    "numpy.core.numeric._frombuffer": "an array",
    "_codecs.encode": "bytes",
    "jax._src.array._reconstruct_array": "an array of JAX",
    "jax._src.device_array.reconstruct_device_array": "an array of JAX",  # before 0.4
    "haiku._src.data_structures.FlatMap": "a mapping",
    "haiku._src.data_structures.FlatMapping": "a mapping",
    "haiku._src.data_structures.frozendict": "a mapping",
}
"""The functions and classes that a file may call, and what each makes."""


class RefusedError(Exception):
    """Something in a file that is not data; the message names it."""


class Array:
    """An array of numbers, empty until the file says what is in it."""

    def __init__(self) -> None:
        self.array: NumpyArray = np.empty(0)


class State:
    """One of optax's named tuples, of which the content is dropped."""


class _Function(str):
    """What stands in for a function or a class that a file names: a text that says what it makes."""


class _DType:
    """Stands in for ``numpy.dtype``, which would take from a file that bytes are pointers to objects."""

    def __init__(self, name: str) -> None:
        if not re.fullmatch("[fiub][0-9]{1,2}", name):
            raise RefusedError(f"an array of dtype {name[:LONGEST_NAME]!r}")
        self.name = name
        self.byte_order = "="


def read_data(file: IO[bytes]) -> Any:
    """What is in a pickle: containers, numbers, texts, bytes, :class:`Array` and :class:`State`.

    Raises:
        RefusedError: If it holds anything else.
        Exception: Of any other kind, if it is damaged.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:  # makes no room for more than there is
        reader = _Reader(len(content))
        for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):  # type: ignore[arg-type]
            if count == MOST_INSTRUCTIONS:
                raise RefusedError(f"more than {MOST_INSTRUCTIONS} instructions")
            reader.do(opcode.name, argument)
        return reader.stack[-1]


class _Reader:
    """Carries out the instructions of a pickle.

    Args:
        room: Bytes for all arrays together; each has its own in the file, whatever the file says.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def do(self, instruction: str, argument: Any) -> None:
        """Carry out one instruction, by its name in :mod:`pickletools`."""
        stack = self.stack
        match instruction:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case _ if instruction in _VALUES:
                stack.append(argument)
            case _ if instruction in _CONSTANTS:
                stack.append(_CONSTANTS[instruction])
            case "MARK":
                self.marks.append(len(stack))
            case "POP":
                stack.pop()
            case "POP_MARK":
                self._since_mark()
            case "DUP":
                stack.append(stack[-1])
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "MEMOIZE":
                self.memo[len(self.memo)] = stack[-1]
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case _ if instruction in _TUPLES:
                stack.append(tuple(self._last(_TUPLES[instruction])))
            case "TUPLE":
                stack.append(tuple(self._since_mark()))
            case "EMPTY_LIST":
                stack.append([])
            case "LIST":
                stack.append(self._since_mark())
            case "APPEND":
                _append(self._last(1), stack[-1])
            case "APPENDS":
                _append(self._since_mark(), stack[-1])
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                items = self._since_mark()
                stack.append({})
                _set(items, stack[-1])
            case "SETITEM":
                _set(self._last(2), stack[-1])
            case "SETITEMS":
                _set(self._since_mark(), stack[-1])
            case "GLOBAL":
                stack.append(_function(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                stack.append(_function(*self._last(2)))
            case "REDUCE" | "NEWOBJ":
                stack.append(self._made(*self._last(2)))
            case "BUILD":
                (state,) = self._last(1)
                self._build(stack[-1], state)
            case _:
                raise RefusedError(f"the instruction {instruction}")

    def _last(self, number: int) -> list[Any]:
        """The last `number` values of the stack, which they are taken from."""
        return self._from(len(self.stack) - number)

    def _since_mark(self) -> list[Any]:
        """The values of the stack since the last mark, which they are taken from."""
        return self._from(self.marks.pop())

    def _from(self, begin: int) -> list[Any]:
        if not 0 <= begin <= len(self.stack):
            raise IndexError("the stack is shorter")
        values = self.stack[begin:]
        del self.stack[begin:]
        return values

    def _made(self, function: Any, arguments: Any) -> Any:
        """The object that a function of the file makes; of arguments, which calls may share, a few are looked at."""
        if not isinstance(function, _Function) or not isinstance(arguments, tuple):
            raise TypeError("expected a function and its arguments")
        match str(function), arguments[:5]:
            case "a state", _:
                return State()
            case "a mapping", (dict() as mapping,):
                return mapping
            case "a dtype", (str() as name, *_):
                return _DType(name)
            case "an empty array", _:
                return Array()
            case "an array", (data, dtype, shape, order):
                return self._fill(Array(), data, dtype, shape, order)
            case "an array of JAX", (_, _, state, _):
                return self._build(Array(), state)
            case "bytes", (str() as text, "latin1"):
                self._take(len(text))
                return text.encode("latin-1")
        raise TypeError(f"expected other arguments for {function}")

    def _build(self, made: Any, state: Any) -> Any:
        """Give an object that has been made its state, and return it."""
        match made, state:
            case _DType(), (_, "|" | "<" | ">" as byte_order, *_):
                made.byte_order = "=" if byte_order == "|" else byte_order
                return made
            case Array(), (_, shape, dtype, is_transposed, data):
                return self._fill(made, data, dtype, shape, "F" if is_transposed else "C")
        raise TypeError("expected what has a state")

    def _fill(self, made: Array, data: Any, dtype: Any, shape: Any, order: Any) -> Array:
        if not isinstance(dtype, _DType) or not isinstance(data, bytes | bytearray):
            raise TypeError("expected numbers as bytes")
        self._take(len(data))
        array = np.frombuffer(data, dtype.byte_order + dtype.name)
        made.array = array.reshape(shape, order=order).astype(dtype.name)
        return made

    def _take(self, num_bytes: int) -> None:
        self.room -= num_bytes
        if self.room < 0:
            raise RefusedError("arrays that are larger than the file")


def _function(module: Any, name: Any) -> _Function:
    """A function that stands in for the one, or the class, that a file names; refuses all that are not known."""
    known = f"{module[:LONGEST_NAME]}.{name[:LONGEST_NAME]}"
    if known.startswith("optax.") and known.endswith("State"):
        return _Function("a state")
    makes = _FUNCTIONS.get(known.replace("numpy._core.", "numpy.core."))
    if makes is None:
        raise RefusedError(ascii(known))
    return _Function(makes)


def _append(values: list[Any], target: Any) -> None:
    if not isinstance(target, list):
        raise TypeError("expected a list")
    target += values


def _set(keys_and_values: list[Any], target: Any) -> None:
    if not isinstance(target, dict):
        raise TypeError("expected a dict")
    for key, value in zip(keys_and_values[::2], keys_and_values[1::2], strict=True):
        if not isinstance(key, str | bool | None) and not (isinstance(key, int) and abs(key) < 2**63):
            raise RefusedError(f"a {type(key).__name__} as a key")  # to look for a tuple may take for ever
        target[key] = value
