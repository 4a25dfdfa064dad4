"""``nar latents``: what is to be known of a model's latent space."""

from nar.cli import startup  # noqa: F401 (before all that imports Lightning)

# isort: split
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from jsonargparse.typing import NonNegativeInt

from nar.cli.agreement import parsed_over
from nar.cli.kinds import DENSE
from nar.cli.models import OF_TRAINING, ModelParser, add_model_arguments, give_weights, make, model_parser, parsed
from nar.cli.settings import check_given
from nar.errors import UserError
from nar.training.checkpoint import read_checkpoint

USAGE = "nar latents --ckpt_path runs/bellman_ford/best.ckpt [--split test --data.test_sizes [64]]"
ABOUT = """Look at a model's latent space as Mirjanić et al. (2023) do: states of nodes after every step, their
principal components, whether they settle, how scores bear noise and, if the model knows bellman_ford, how far instances
with the same shortest paths are from one another. What is not given of the model and of the data is the checkpoint's.
"""


def make_parser() -> ModelParser:
    """The parser of ``nar latents``."""
    parser = model_parser(DENSE, "latents", ABOUT, USAGE)
    parser.of_others = OF_TRAINING
    parser.add_argument("--ckpt_path", type=str | None, help="The checkpoint to read.")
    parser.add_argument(
        "--out", type=str | None, help="The folder to write; 'latents' beside the checkpoint if not given."
    )
    parser.add_argument("--split", type=Literal["validation", "test"], default="validation", help="What to run on.")
    parser.add_argument("--num_trajectories", type=int, default=64, help="How many to take of it, at least 2.")
    parser.add_argument("--num_extra_steps", type=NonNegativeInt, default=16, help="To take after the longest's end.")
    add_model_arguments(parser)
    return parser


def run(args: Sequence[str]) -> None:
    """Run ``nar latents``.

    Raises:
        UserError: If it cannot be done.
    """
    check_given(args)
    parser = make_parser()
    path = parsed(parser, args).ckpt_path
    if path is None:
        raise UserError("nar latents needs a checkpoint: --ckpt_path runs/quickstart/best.ckpt")
    checkpoint = read_checkpoint(path)
    config = parsed_over(parser, args, path, checkpoint, resumes=False)
    if config.num_trajectories < 2:
        raise UserError(f"expected num_trajectories ≥ 2, given {config.num_trajectories}")
    model, data = make(parser, config)
    give_weights(model, path, checkpoint)
    loader = data.val_dataloader() if config.split == "validation" else data.test_dataloader()
    folder = Path(path).parent / "latents" if config.out is None else Path(config.out)
    try:
        paths = write(model, data.algorithms, loader, folder, config.num_trajectories, config.num_extra_steps)
    except ValueError as error:
        raise UserError(str(error)) from error
    for written in paths:
        print(f"written: {written}")


def write(
    model: Any, algorithms: Sequence[Any], loader: Any, folder: Path, num_trajectories: int, num_extra_steps: int
) -> list[Path]:
    """The files that are written of a model.

    Args:
        model: It.
        algorithms: Which it is to be looked at for.
        loader: Gives batches of these.
        folder: Where the files are written.
        num_trajectories: How many of each algorithm and size.
        num_extra_steps: To take after the end of the longest trajectory.
    """
    from nar.analysis.latents import first_of_each
    from nar.analysis.report import write_latents  # here, as matplotlib takes long to be imported
    from nar.datasets.clrs30.samplers import CLRS_30
    from nar.datasets.clrs30.symmetries import BELLMAN_FORD, SYMMETRIES, study

    batches = first_of_each(loader, num_trajectories)
    is_studied = CLRS_30[BELLMAN_FORD] in algorithms
    sizes = [size for algorithm, size in batches if is_studied and algorithm == BELLMAN_FORD]
    studies = {n: {symmetry: study(symmetry, num_nodes=n) for symmetry in SYMMETRIES} for n in sizes}
    return write_latents(model.model, model.specs, batches, studies, folder, num_extra_steps=num_extra_steps)
