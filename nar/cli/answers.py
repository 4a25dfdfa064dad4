"""What ``nar test`` and ``nar ask`` do with the answers of a language model that reads a reasoner's states."""

from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path

from rich.console import Console
from rich.text import Text
from transformers import PreTrainedTokenizerBase

from nar.analysis.answers import Key, TextScores, mean_scores, print_text_table, read_text_csv, write_text_report
from nar.datasets.text.datamodule import CLRSText
from nar.datasets.text.format import Scores
from nar.datasets.text.stream import TextSample, grouped
from nar.errors import UserError
from nar.hybrid.answers import generate_answers, longest_answer, reasoner_outputs
from nar.hybrid.module import LanguageReasoner
from nar.hybrid.transnar import TransNAR
from nar.sweep.run import REASONER

HYBRID, LANGUAGE_MODEL = "hybrid", "language model"
SHUFFLED = f"{HYBRID} with shuffled graphs"


def name_of(model: TransNAR) -> str:
    """The name of a model in tables: with a reasoner it is a hybrid, else a language model alone."""
    return LANGUAGE_MODEL if model.reasoner is None else HYBRID


def report_test(module: LanguageReasoner, data: CLRSText, folder: Path, baseline: TextScores) -> None:
    """Print and write how right the answers of the last test are, and on the same texts those of the reasoner alone.

    Args:
        module: With the answers.
        data: With the texts.
        folder: To write to.
        baseline: See :func:`read_baseline`; of it, the scores on the same algorithms and sizes are reported beside.
    """
    name = SHUFFLED if module.shuffle_graphs else name_of(module.model)
    texts = {text.prompt: text for of_kind in data.test_texts() for text in of_kind}
    answered = [texts[answer.prompt] for answer in module.answers]
    own = mean_scores(
        ((name, text.algorithm, text.num_nodes), text.scores(answer.answer))
        for text, answer in zip(answered, module.answers, strict=True)
    )
    of_other = {
        (f"{model} of the baseline" if model == name else model, algorithm, num_nodes): scores
        for (model, algorithm, num_nodes), scores in baseline.items()
        if (name, algorithm, num_nodes) in own and model != REASONER
    }
    if baseline and not of_other:
        print("of the baseline nothing is reported: it has none of these algorithms and sizes")
    scores = {**own, **of_other, **_reasoner_scores(module.model, answered)}
    print_text_table(scores, data.sizes, "test")
    written = write_text_report(scores, data.sizes, folder)
    print(f"written: {', '.join(map(str, written))}")


def read_baseline(path: str | None) -> TextScores:
    """The scores in the ``answers.csv`` of another test; nothing if there is none.

    Raises:
        UserError: If it is no such file.
    """
    try:
        return {} if path is None else read_text_csv(Path(path))
    except (OSError, TypeError, ValueError) as error:
        raise UserError(f"no scores to report beside in {path}: expected the answers.csv of a nar test") from error


def _reasoner_scores(model: TransNAR, texts: Sequence[TextSample]) -> dict[Key, dict[str, float]]:
    """How right the reasoner is by itself; nothing if the model has none."""
    by_kind: dict[tuple[str, int], list[TextSample]] = {}
    for text in texts:
        by_kind.setdefault((text.algorithm, text.num_nodes), []).append(text)
    return mean_scores(
        ((REASONER, *key), text.scores(answer))
        for key, of_kind in by_kind.items()
        for text, answer in zip(of_kind, _reasoner_answers(model, of_kind), strict=False)
    )


def _reasoner_answers(model: TransNAR, texts: Sequence[TextSample]) -> list[str]:
    """The reasoner's outputs, written as the answers to texts; nothing if the model has none."""
    if model.reasoner is None:
        return []
    outputs = reasoner_outputs(model.reasoner, grouped(texts), len(texts))
    return [text.answer_with(of_text) for text, of_text in zip(texts, outputs, strict=True)]


def show(model: TransNAR, tokenizer: PreTrainedTokenizerBase, texts: Sequence[TextSample]) -> None:
    """Print texts, the answers of a model and those of its reasoner alone.

    Raises:
        ValueError: If a text is too long for the model.
    """
    prompts, truths = [text.prompt for text in texts], [text.answer for text in texts]
    longest = longest_answer(tokenizer, truths)
    answers = generate_answers(model, tokenizer, prompts, grouped(texts), max_new_tokens=longest)
    reasoners: Sequence[str | None] = _reasoner_answers(model, texts) or [None] * len(texts)
    console = Console(highlight=False, soft_wrap=True)
    for text, answer, of_reasoner in zip(texts, answers, reasoners, strict=True):
        for line in shown(text, {name_of(model): answer, REASONER: of_reasoner}):
            console.print(line)


def shown(text: TextSample, answers: dict[str, str | None]) -> Iterator[Text]:
    """The lines that show a text, and beside its true answer those of models by name, None for none."""
    yield Text(text.prompt, end="")
    width = max(map(len, ("truth", *answers))) + 1
    yield Text(f"{'truth':{width}} {text.answer.strip()}", "bold")
    for name, answer in answers.items():
        if answer is not None:
            yield Text.assemble((f"{name:{width}} ", "dim"), compared(answer.strip(), text.answer.strip()))
            yield Text(
                f"{'':{width}} {_parting(answer.strip(), text.answer.strip())}; {said(text.scores(answer))}", "dim"
            )
    yield Text()


def compared(answer: str, truth: str) -> Text:
    """The answer: green as long as it is the truth, then red, and where they part reversed."""
    same = _num_same(answer, truth)
    if answer == truth:
        return Text(answer, "green")
    rest = answer[same:] or " "  # where the answer ends too early
    return Text.assemble((answer[:same], "green"), (rest[:1], "bold red reverse"), (rest[1:], "red"))


def _parting(answer: str, truth: str) -> str:
    """In words, where an answer parts from the truth."""
    same = _num_same(answer, truth)
    if answer == truth:
        return "as the truth"
    if same == len(answer):
        return f"parts from the truth at character {same + 1}, where it ends"
    expected = repr(truth[same]) if same < len(truth) else "the end"
    return f"parts from the truth at character {same + 1}: {answer[same]!r} in place of {expected}"


def _num_same(answer: str, truth: str) -> int:
    """How many characters an answer and the truth have in common from the start."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(answer, truth, strict=False)))


def said(scores: Scores) -> str:
    """The scores of an answer in one line for the user."""
    return f"parse {scores.parse:.0f}, shape {scores.shape:.0f}, CLRS {scores.clrs:.2f}, exact {scores.exact:.0f}"
