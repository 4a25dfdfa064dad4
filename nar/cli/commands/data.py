"""``nar data``: the cache of validation and test splits."""

import inspect
from collections.abc import Sequence

from nar.cli import HELP, check_command, overview
from nar.cli.parser import Parser, check_algorithms, refusing
from nar.cli.settings import check_yaml
from nar.datasets.splits import upkeep
from nar.datasets.splits.clrs30 import CLRS30Splits
from nar.datasets.splits.generation import generate_splits

ACTIONS = {
    "list": "List the validation and test splits in the cache.",
    "verify": "Read every file of the cache and name those that are damaged; with any, the exit status is 1.",
    "clear": "Remove the files of the cache, and nothing else that its folder holds.",
    "generate": "Generate the splits that `nar fit` and `nar test` will read, if they are not in the cache.",
}
_NO_PART_OF_SPLITS = {"batch_size", "eval_batch_size", "seed", "chunk_length", "train_communities"}


def make_parser(action: str) -> Parser:
    """The parser of an action."""
    others = inspect.signature(CLRS30Splits).parameters.keys() - {"cache_dir"}
    parser = Parser(prog=f"nar data {action}", description=ACTIONS[action])
    parser.add_class_arguments(CLRS30Splits, "data", skip=_NO_PART_OF_SPLITS if action == "generate" else others)
    return parser


def run(args: Sequence[str]) -> None:
    """Run ``nar data``.

    Raises:
        UserError: If the arguments are none of it.
        SystemExit: With status 1 if a file is damaged, with 0 after help.
    """
    if args and args[0] in HELP:
        print(overview("nar data", ACTIONS))
        return
    check_command("nar data", args, ACTIONS)
    action, *rest = args
    check_yaml(rest)
    parser = make_parser(action)
    config = parser.parsed(rest)
    check_algorithms(config.data.get("algorithms", []))
    with refusing():
        data: CLRS30Splits = parser.instantiate(config).data
    match action:
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
