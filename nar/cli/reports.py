"""What is done with the models of each kind before they are trained, and said of them after a test."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from nar.files import unused
from nar.ops.process import tune_process
from nar.training.table import draw_scores, print_table


def tune(model: Any, data: Any) -> None:
    """Make the small operations of a reasoner fast."""
    tune_process()


def check_texts(model: Any, data: Any) -> None:
    """Raise a :class:`UserError` if a text of training or of a test is too long for a language model, or if there is
    none that its graph could be exchanged with where that is asked for.
    """
    if model.shuffle_graphs:
        data.check_pairs()
    for text in data.largest_texts():
        model.check_length(text, text.input_ids.shape[1])


def report_scores(
    model: Any, data: Any, settings: Mapping[str, Any], checkpoint: Mapping[str, Any], folder: Path
) -> None:
    """Print the scores of a reasoner, and write them as ``ood.csv``, with the columns of ``nar evaluate``, and
    ``ood.png``; under another name where there is such a file already.
    """
    from nar.evaluation.instances import Marks  # here, as all of these take long to be imported
    from nar.evaluation.report import rows_of, write_csv
    from nar.evaluation.run import FAMILY_OF_DM_CLRS, Unit, subject_of

    graphs = settings["data"].test_graphs
    table, picture = unused(folder, "ood" if graphs is None else f"ood_{graphs}", ("csv", "png"))
    print_table(model.scores, "test")
    subject = subject_of(settings["ckpt_path"], checkpoint)
    rows: list[Any] = []
    for (algorithm, num_nodes), counts in model.marks.items():
        unit = Unit(subject, algorithm, num_nodes, data.test_graphs or FAMILY_OF_DM_CLRS, num_nodes)
        rows += rows_of(model.marked_specs, unit, Marks.of_outputs(counts))
    write_csv(rows, table)
    draw_scores(model.scores, picture)
    print(f"written: {table} and {picture}")


def report_answers(
    model: Any, data: Any, settings: Mapping[str, Any], checkpoint: Mapping[str, Any], folder: Path
) -> None:
    """Print how right the answers of a language model are, and write it as ``answers.csv``, .md and .png."""
    answers = import_module("nar.cli.answers")
    model.to(model.trainer.strategy.root_device)
    answers.report_test(model, data, folder, answers.read_baseline(settings["baseline"]))
