"""What is done with the models of each kind before they are trained, and said of them after a test."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from nar.ops.process import tune_process
from nar.training.table import draw_scores, print_table, write_csv


def tune(model: Any, data: Any) -> None:
    """Make the small operations of a reasoner fast."""
    tune_process()


def check_texts(model: Any, data: Any) -> None:
    """Raise a :class:`UserError` if a text of training or of a test is too long for a language model."""
    for text in data.largest_texts():
        model.check_length(text, text.input_ids.shape[1])


def report_scores(model: Any, data: Any, settings: Mapping[str, Any], folder: Path) -> None:
    """Print the scores of a reasoner, and write them as ``ood.csv`` and ``ood.png``."""
    graphs = settings["data"].test_graphs
    name = "ood" if graphs is None else f"ood_{graphs}"
    table, picture = (folder / f"{name}.{kind}" for kind in ("csv", "png"))
    print_table(model.scores, "test")
    write_csv(model.scores, table)
    draw_scores(model.scores, picture)
    print(f"written: {table} and {picture}")


def report_answers(model: Any, data: Any, settings: Mapping[str, Any], folder: Path) -> None:
    """Print how right the answers of a language model are, and write it as ``answers.csv``, .md and .png."""
    answers = import_module("nar.cli.answers")
    model.to(model.trainer.strategy.root_device)
    answers.report_test(model, data, folder, answers.read_baseline(settings["baseline"]))
