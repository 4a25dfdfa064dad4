"""``nar data``: the cache of validation and test splits."""

import inspect
from collections.abc import Sequence

from nar.cli.parser import Parser, check_algorithms, parameters_below, refusing
from nar.cli.refusals import with_flag
from nar.cli.settings import check_values, check_yaml
from nar.datasets import Algorithm
from nar.datasets.splits import upkeep
from nar.datasets.splits.clrs30 import CLRS30Splits
from nar.datasets.splits.generation import generate_splits
from nar.errors import UserError

ACTIONS = {
    "list": "List the validation and test splits in the cache.",
    "verify": "Read every file of the cache and name those that are damaged; with any, the exit status is 1.",
    "clear": "Remove the files of the cache, and nothing else that its folder holds.",
    "generate": "Generate the splits that `nar fit` and `nar test` will read, if they are not in the cache.",
}
NO_PART_OF_SPLITS = {"batch_size", "eval_batch_size", "seed", "chunk_length"}


def keep_data(args: Sequence[str]) -> None:
    """List, verify or clear the cache of splits, or fill it ahead.

    Raises:
        UserError: If the arguments are none of ``nar data``.
        SystemExit: With status 1 if a file is damaged, with 0 after help.
    """
    parser = Parser(
        prog="nar data",
        description="List, verify or clear the cache of validation and test splits, or fill it ahead.",
    )
    actions = parser.add_subcommands(dest="action")
    flags: dict[str, set[str]] = {}
    for action, text in ACTIONS.items():
        others = inspect.signature(CLRS30Splits).parameters.keys() - {"cache_dir"}
        actor = Parser(description=text)
        actor.add_class_arguments(CLRS30Splits, "data", skip=NO_PART_OF_SPLITS if action == "generate" else others)
        actions.add_subcommand(action, actor, help=text)
        flags[action] = {*actor._option_string_actions}
    check_yaml(args)
    try:
        with refusing():
            config = parser.parse_args([*args])
    except UserError as error:
        known = flags.get("".join(args[:1]), set())
        raise UserError(with_flag(str(error), known, parameters_below(Algorithm))) from error
    given = config[config.action]
    check_values(given.as_dict())
    check_algorithms(given.data.get("algorithms", []))
    with refusing():
        data: CLRS30Splits = parser.instantiate(config)[config.action].data
    match config.action:
        case "list":
            upkeep.print_files(data.cache)
        case "verify":
            if not upkeep.verify(data.cache):
                raise SystemExit(1)
        case "clear":
            upkeep.clear(data.cache)
        case "generate":
            splits = [*data.val_splits, *data.test_splits]
            generate_splits(splits, data.cache, num_processes=data.num_workers)
            number = sum(split.is_in(data.cache) for split in splits)
            print(f"{data.cache.folder}: has {number} of {len(splits)} splits")
