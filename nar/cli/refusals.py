"""The one line that a refused command prints: what was given and what was expected, in a user's words.

jsonargparse tells of types, of every member of a union and of every way to give a class, Lightning and others of what
they do with a setting; what a user can do about it is put in place of that.
"""

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nar.errors import meant

_PREFIX = "nar: error: "
MOST = 300
"""How many characters the line of an error has at most."""
MOST_OF_A_WORD, MOST_OF_A_VALUE = 150, 60
KEY = re.compile(r'(?:Parser key "([^"]*)"|--([\w.]+)): *')
"""What an error of the parser is about, or one that has been translated already."""
PATH = re.compile(r"^- Expected a path but .*? either not accessible or invalid - ")
_UNION = "Does not validate against any of the Union subtypes"
_UNTELLING = (_UNION, "Expected a ", "Not a valid", "a ")
"""How the refusals of a union begin that say no more than which type it would be."""
FOR_USERS = "MisconfigurationException"
"""The name of Lightning's error that is written for users; to import the class would take seconds."""
_NESTED = re.compile(r"NestedArg\(key='\w+', val='?(.*?)'?\)")
_NEEDED = re.compile(r"Requirement '([\w.-]+)[^']*' not met.*")
_CLASS_PATH = re.compile(r"Problem with given class_path '(?:[\w]+\.)*(\w+)': ")
KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "NoneType": "null",
    "dict": "settings, such as {name: 1}",
    "Mapping": "settings, such as {name: 1}",
    "PositiveInt": "a whole number above 0",
    "NonNegativeInt": "a whole number of at least 0",
}
_LISTS = ("list", "tuple", "Iterable", "Sequence", "set")
CLASS = "the name of a class or its import path"


def line_of(error: BaseException) -> str:
    """An exception as the line that a command prints."""
    if isinstance(error, OSError) and error.filename is not None:
        error = ValueError(f"cannot use {error.filename}: {error.strerror}")
    lines = str(error).strip().splitlines()  # of an error in a data worker all but the last is its traceback
    message = translated(lines[-1].removeprefix("nar.errors.UserError: ") if lines else type(error).__name__)
    return _PREFIX + shortened(message, MOST - len(_PREFIX))


def reason(error: BaseException) -> str:
    """What an exception says; where that is not meant for users, after its kind and before where it comes from."""
    message = " ".join(str(error).split())
    if message and (isinstance(error, ValueError | OSError | ImportError) or type(error).__name__ == FOR_USERS):
        return message
    if isinstance(error, SyntaxError):  # which says where
        return f"{type(error).__name__}: {message}"
    place, last = "", error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is not None:
        code = last.tb_frame.f_code
        place = f" ({code.co_filename.rpartition('/')[2]}, line {last.tb_lineno})"
    return f"{type(error).__name__}: {shortened(message, MOST // 2)}{place}"


def translated(message: str) -> str:
    """An error of the parser, or of what it makes, in a user's words; any other as it is."""
    text, keys = " ".join(message.split()), []
    while found := KEY.match(text):
        keys.append(found[1] or found[2])
        text = text[found.end() :]
    if len(keys) > 1 and keys[0] == "config":
        del keys[0]
    text = _in_words(text)
    return f"--{'.'.join(keys)}: {text}" if keys else text


def _in_words(text: str) -> str:
    """An error of the parser without the key that it is about."""
    text = PATH.sub("", text)
    if text.startswith(_UNION):
        return _of_union(text)
    if KEY.match(text):
        return translated(text)
    expectation, has_value, given = text.partition(" Subclass types")[0].partition(". Got value:")
    given = given.strip()
    if has_value and _kinds_of(expectation, given):
        return expected(_kinds_of(expectation, given), given)
    if found := re.match(r"argument (?:subcommand|action): invalid choice: '(.*)' \(choose from (.*)\)", text):
        names = re.findall(r"[\w-]+", found[2])
        return f"expected a command: {', '.join(names)}; given {clipped(found[1])}{meant(found[1], names)}"
    if found := re.match(r'expected "[\w.]+" to be one of \{(.*)\}, but', text):
        return f"expected a command: {', '.join(re.split(', ?', found[1]))}; given none"
    if found := re.match(r"argument (\S+) --> (\S+): invalid", text):
        return f"--{found[2]} follows from --{found[1].partition('.')[0]} and cannot be given"
    if text.startswith("Expected a dot import path string: "):
        given = text.partition(": ")[2]
        names = [name.strip() for name in given.split(",")]
        are_several = len(names) > 1 and all(map(str.isidentifier, names))
        hint = f" (did you mean [{','.join(names)}]?)" if are_several else ""
        return f"expected {CLASS}, given {clipped(given)}{hint}"
    if text.startswith("Not of type "):
        kind, _, given = text.removeprefix("Not of type ").partition(": ")
        return expected([KINDS.get(kind, kind)], given.partition(" does not ")[0])
    if text.startswith("Unable to load config "):
        given = text.removeprefix("Unable to load config '").partition("' - ")[0]
        return f"expected settings, such as {{name: value}}, or a YAML file of them, given {clipped(given)}"
    if "object has no attribute 'keys'" in text:
        return f"{text.partition(': ')[0]}: expected init_args by name, such as {{hidden_dim: 64}}"
    if found := _NEEDED.search(text):
        of_class = _CLASS_PATH.search(text)
        return f"{of_class[1] if of_class else 'what is asked for'} needs {found[1]}: pip install {found[1]}"
    return text


def _of_union(text: str) -> str:
    """The one of a union's refusals (each of its types has one) that tells what is wrong, or what it would take."""
    body, _, given = text.partition(" Errors: - ")[2].rpartition(" Given value:")
    refusals = body.rpartition(" Given value type: ")[0].split(" - ")
    for refusal in refusals:
        if not refusal.startswith(_UNTELLING):
            return _in_words(refusal)
    given = given.strip()
    return expected([kind for refusal in refusals for kind in _kinds_of(refusal, given)], given)


def _kinds_of(refusal: str, given: str) -> list[str]:
    """The types of values, in words, of which one would have been accepted in place of what was refused."""
    if refusal.startswith("Expected a typing.Literal"):
        choices = refusal.removeprefix("Expected a typing.Literal")
        return [f"'{choice}'" for choice in ast.literal_eval(choices[: choices.rindex("]") + 1])]
    if refusal.startswith(("Expected a dot import path", "Not a valid subclass")):
        return [CLASS]
    if found := re.match(r"Expected a <class '(?:\w+\.)*(\w+)'>", refusal):
        if found[1] in _LISTS:
            return [f"a list, such as [{given}]" if re.fullmatch(r"[\w.,]{1,40}", given) else "a list"]
        return [KINDS.get(found[1], found[1])]
    return []


def expected(kinds: Sequence[str], given: str) -> str:
    """What is expected, what is given, and what may have been meant."""
    given = _NESTED.sub(r"\1", given)
    choices = [kind.strip("'") for kind in kinds if kind.startswith("'")]
    words = dict.fromkeys(kind.strip("'") for kind in kinds)
    if {KINDS["int"], KINDS["float"]} <= words.keys():
        del words[KINDS["int"]]
    *others, last = words
    either = f"{', '.join(others)} or {last}" if others else last
    return f"expected {either}, given {clipped(given)}{meant(given, choices)}"


def with_flag(message: str, flags: Iterable[str], parameters: Iterable[str]) -> str:
    """An error of the parser that names a flag which there is not, with the one that may be meant.

    Args:
        message: The error.
        flags: That there are, each with its dashes.
        parameters: Of the classes that may be chosen by some of them.
    """
    if message.startswith("ambiguous option: "):
        message = f"unrecognized arguments: {message.split()[2]}"
    unknown = message.removeprefix("unrecognized arguments: ")
    if unknown != message:
        name = unknown.split(" ")[0].partition("=")[0]
        if name.startswith("-"):
            return f"unrecognized arguments: {clipped(unknown)}{_meant_flag(name, flags)}"
        flag = {"ckpt": "--ckpt_path", "yaml": "--config", "yml": "--config"}.get(name.rpartition(".")[2])
        hint = f" (did you mean {flag} {name}?)" if flag in {*flags} else ""
        return f"unrecognized arguments: {clipped(unknown)}{hint}"
    if found := re.match(r"(?:Group '(\w+)' does not accept option|Option) '([^']*)'", message):  # of YAML
        name = f"--{found[1]}.{found[2]}" if found[1] else f"--{found[2]}"
        return f"unknown setting {name}{_meant_flag(name, flags)}"
    if found := re.search(r"Option '([^']*)' is not accepted", message):
        return message + meant(found[1], parameters)
    return message


def _meant_flag(given: str, flags: Iterable[str]) -> str:
    """A hint at the flag that may be meant (see :func:`nar.errors.meant`); dashes make no flag like another."""
    return meant(given.lstrip("-"), [flag.lstrip("-") for flag in flags]).replace("mean ", "mean --")


def with_setting(message: str, settings: Mapping[str, Any]) -> str:
    """An error of the trainer, with the setting that it is about, if it names one."""
    for name, value in settings.items():
        if value is not None and re.search(rf"\b{name}\b", message) and f"{name}={value!r}" not in message:
            return f"{message.rstrip('.')}; given --trainer.{name} {clipped(str(value))}"
    return message


def clipped(value: str) -> str:
    """A value that was given, if it is long its beginning and its length."""
    if len(value) > MOST_OF_A_VALUE:
        return f"{value[: MOST_OF_A_VALUE // 2]}… ({len(value)} characters)"
    return value or "''"


def shortened(text: str, most: int) -> str:
    """A line of so many characters at most, all of which can be printed; of what is longer the middle is left out."""
    words = [
        word if len(word) <= MOST_OF_A_WORD else f"{word[: MOST_OF_A_VALUE // 2]}…{word[-MOST_OF_A_VALUE // 2 :]}"
        for word in text.split()
    ]
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(words))
    if len(line) <= most:
        return line
    end = most // 3
    return f"{line[: most - end - 3]} … {line[-end:]}"
