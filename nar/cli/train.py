"""The commands that train, validate and test a model, and that write what it predicts, by Lightning's command line.

``nar test`` of a reasoner goes through these steps until the first batch is scored; the other commands differ little:

1. :func:`nar.cli.main` finds the command and imports this module, whose :func:`run` does the rest.
2. :func:`nar.cli.kinds.choose` finds the kind of model; for that it reads the checkpoint, which is not read again.
3. :class:`TrainCLI` makes a parser for the classes of that kind alone (`init_parser`,
   `add_core_arguments_to_parser`).
4. `parse_arguments` parses the command line, and then parses it again over the checkpoint's configuration
   (:func:`nar.cli.agreement.parsed_over`), which refuses what contradicts the checkpoint.
5. `before_instantiate_classes` fills in what follows from other settings, such as the run's folder.
6. `instantiate_classes` makes the data and then the model, within :class:`nar.cli.memory.Room`, and then the trainer.
7. `TrainCLI.test` gives the model the checkpoint's weights and calls Lightning's ``Trainer.test``.
8. The data module's `prepare_data` generates the test splits that are not in the cache
   (:func:`nar.datasets.splits.generation.generate_splits`).
9. Its `test_dataloader` loads them (`Split.load`) and cuts them into batches (`SplitBatches`).
10. `Reasoner.test_step` runs the model on a batch, and :func:`nar.model.metrics.counts` says how much of it is right.
11. The counts are added up in a :class:`nar.training.tally.Tally`, of which scores are made when all batches are seen.

At the end the kind's `report` (:mod:`nar.cli.reports`) prints the scores and writes them beside the checkpoint.
"""

from nar.cli.startup import silence_noise  # before all that imports Lightning

# isort: split
import gc
import json
import signal
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from jsonargparse import Namespace
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import SIGTERMException
from safetensors.torch import save

from nar.cli.agreement import compare_run, label, parsed_over
from nar.cli.kinds import KINDS, Choice, choose
from nar.cli.memory import COPIES_IN_TRAINING, Room
from nar.cli.models import OF_FORMER_RUNS, ModelParser, add_model_arguments, give_weights, model_parser, parsed
from nar.cli.parser import refusing
from nar.cli.refusals import reason, with_setting
from nar.cli.settings import check_given
from nar.cli.trainer import (
    RECIPE,
    Beginning,
    check_averages,
    check_devices,
    draw_logged,
    given_callbacks,
    is_of_settings,
    own_callbacks,
    own_settings,
    saves,
)
from nar.errors import UserError, one_line
from nar.files import lock_folder, release, replacing
from nar.ops.process import keep_freed_memory
from nar.training.checkpoint import config_of, kind_of, load_weights, read_checkpoint
from nar.training.reasoner import Reasoner
from nar.training.runs import (
    StopOnSignal,
    check_folder,
    clear_leftovers,
    make_trainer_write_whole_files,
    requeued,
    resumable,
)
from nar.training.saving import run_settings
from nar.training.table import print_table

ABOUT = {
    "fit": "Train a model.",
    "validate": "Score a model on the validation splits.",
    "test": "Score a model on the test splits, which may have larger graphs.",
    "predict": "Write what a model answers to the test splits.",
}


class TrainCLI(LightningCLI):
    """Lightning's command line for one command and one kind of models.

    Its checkpoints know their algorithms and what they are made of: where one is named, all that is not given is as in
    it, and what is given may not contradict it.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        choice: The kind of models, and the rest of the command line.
    """

    model: Any
    datamodule: Any
    parser: ModelParser

    def __init__(self, command: str, choice: Choice) -> None:
        self.command, self.kind, self.choice = command, choice.kind, choice
        self.checkpoint: Mapping[str, Any] = {}
        self.lock: FileLock | None = None
        model, data = choice.kind.classes()
        super().__init__(
            model,
            data,
            args=choice.args,
            run=False,
            parser_class=ModelParser,
            trainer_defaults=RECIPE,
            seed_everything_default=42,
            save_config_kwargs={"overwrite": True},
            auto_configure_optimizers=False,
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser for the command."""
        return model_parser(self.kind, self.command, ABOUT[self.command], **kwargs)

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """What the command, the data and the model take, and then the trainer."""
        assert isinstance(parser, ModelParser)
        parser.of_others = OF_FORMER_RUNS
        text = "go on from; `last` is that in the run's folder" if self.command == "fit" else "read"
        parser.add_argument("--ckpt_path", type=str | None, help=f"The checkpoint to {text}.")
        if self.kind.name == "text" and self.command == "test":
            text = "The answers.csv of another model's test on the same texts, to report beside."
            parser.add_argument("--baseline", type=str | None, help=text)
        add_model_arguments(parser)
        parser.add_lightning_class_args(self.trainer_class, "trainer")
        parser.set_defaults({f"trainer.{name}": value for name, value in self.trainer_defaults.items()})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; where a checkpoint is named, again with its configuration as the defaults."""
        assert isinstance(parser, ModelParser)
        self.config = parsed(parser, args)
        path = self.config.ckpt_path
        if self.command == "fit" and path is None and (saved := requeued(self._root())) is not None:
            path = str(saved)
        if path is None:
            if self.command != "fit":
                example = f"--ckpt_path {self.kind.runs}/quickstart/best.ckpt"
                raise UserError(f"nar {self.command} needs a checkpoint: {example}")
            return
        if path == "last":
            path = str(resumable(self._root()))
        of_choice, checkpoint = self.choice.checkpoint or (None, {})
        self.checkpoint = checkpoint if path == of_choice else read_checkpoint(path)
        self.config = parsed_over(parser, args, path, self.checkpoint, resumes=self.command == "fit")

    def plain_config(self) -> dict[str, Any]:
        """The arguments of the model and of the data as plain values."""
        return self.parser.plain(self.config)

    def _root(self) -> Path:
        """The run's folder: that of the checkpoint in evaluation, or named after the algorithm, unless it is given."""
        if self.config.trainer.default_root_dir is not None:
            return Path(self.config.trainer.default_root_dir)
        if self.command != "fit":
            return Path(self.config.ckpt_path).parent
        config = self.plain_config()
        names = [label(given) for given in config["data"]["algorithms"]]
        of_algorithms = names[0].partition("(")[0].rpartition(".")[2] if len(names) == 1 else "several"
        return self.kind.runs / (self.kind.folder(config["model"]) or of_algorithms)

    def before_instantiate_classes(self) -> None:
        """Fill in what follows from other settings."""
        config = self.config
        if config.data.seed is None and not isinstance(config.seed_everything, bool):
            config.data.seed = config.seed_everything
        config.trainer.default_root_dir = str(self._root())
        if config.model.get("optimizer") is not None:
            _check_learning_rates(config.model.learning_rate, config.model.optimizer)
        if config.model.get("lr_scheduler") is not None:
            config.model.lr_scheduler = until(config.trainer.max_steps, config.model.lr_scheduler)

    def instantiate_classes(self) -> None:
        """Instantiate; what a constructor says of its arguments is for the user."""
        with refusing(), Room(COPIES_IN_TRAINING if self.command == "fit" else 1):
            self.config_init = self.parser.made(_with_parts(self.config, self.checkpoint))
            self.datamodule, self.model = self.config_init.data, self.config_init.model
            self.trainer = self.instantiate_trainer()
            self.model.made_from = self.datamodule.made_from = self.plain_config()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A trainer that keeps the best and the last checkpoint, and logs, in its ``default_root_dir``."""
        settings = self.config_init.trainer
        if self.command == "fit":
            check_averages(self.config.ckpt_path, self.checkpoint, settings)
        else:
            kwargs["enable_checkpointing"] = False
        callbacks = [*given_callbacks(settings), *own_callbacks(settings, self.command)]
        try:
            trainer = super().instantiate_trainer(**{**kwargs, **own_settings(settings)}, callbacks=callbacks)
        except UserError:
            raise
        except Exception as error:
            raise UserError(with_setting(reason(error), settings.as_dict())) from error
        check_devices(trainer)
        if saves(settings, self.command) and trainer.is_global_zero:  # the other processes of a run write nothing
            self._lock(Path(settings.default_root_dir))
        make_trainer_write_whole_files(trainer)
        return trainer

    def _lock(self, root: Path) -> None:
        """Keep other runs out of the folder of this one, and see that it has no other's checkpoints."""
        self.lock = lock_folder(root)
        try:
            clear_leftovers(root)
            check_folder(root, self.config.ckpt_path)
        except BaseException:
            self._release_lock()
            raise

    def _release_lock(self) -> None:
        if self.lock is not None:
            release(self.lock)
            self.lock = None

    def run(self) -> None:
        """Run the command.

        Raises:
            SystemExit: With status 130 or 143 if SIGINT or SIGTERM ended training.
            UserError: If a setting does not allow it to go on.
        """
        commands = {"fit": self.fit, "validate": self.validate, "test": self.test, "predict": self.predict}
        try:
            commands[self.command]()
        except Exception as error:
            if isinstance(error, UserError) or not is_of_settings(error):
                raise
            raise UserError(with_setting(reason(error), self.config.trainer.as_dict())) from error

    def fit(self) -> None:
        """Train."""
        path = self.config.ckpt_path
        try:
            if path is not None:
                compare_run(path, self.checkpoint, run_settings(self.trainer))
                load_weights(self.model, self.checkpoint["state_dict"], path)
            self.kind.prepare(self.model, self.datamodule)
            self.trainer.fit(self.model, datamodule=self.datamodule, ckpt_path=path)
        except SystemExit as error:
            is_signal = isinstance(error, SIGTERMException)
            if not (is_signal or isinstance(error.__context__, KeyboardInterrupt)) or not self.trainer.is_global_zero:
                raise
            self._say_what_ended_it(signal.SIGTERM if is_signal else signal.SIGINT, is_saved=is_signal)
        except (UserError, OSError):
            raise
        except Exception as error:
            if path is None or self._callback(Beginning).is_over:
                raise
            # What a damaged state leads to has no end.
            raise UserError(f"no training can go on from {path}: {type(error).__name__}: {one_line(error)}") from error
        else:
            self._say_what_ended_it(None, is_saved=True)
        finally:
            if self._callback(Beginning).is_over and self.trainer.is_global_zero:
                draw_logged(self.trainer)
            self._release_lock()

    def validate(self) -> None:
        """Print the scores on the validation splits."""
        self._give_weights()
        self.trainer.validate(self.model, datamodule=self.datamodule, verbose=False)
        if self.trainer.is_global_zero:
            print_table(self.model.scores, "validation")

    def test(self) -> None:
        """Print the scores on the test splits, and write them beside the checkpoint."""
        if self.config.get("baseline") is not None:  # what is wrong with it is said before anything is answered
            import_module("nar.cli.answers").read_baseline(self.config.baseline)
        self._give_weights()
        self.trainer.test(self.model, datamodule=self.datamodule, verbose=False)
        if self.trainer.is_global_zero:
            folder = Path(self.trainer.default_root_dir)
            self.kind.report(self.model, self.datamodule, self.config, self.checkpoint, folder)

    def predict(self) -> None:
        """Write the predicted outputs, one safetensors file for each algorithm and size."""
        if self.trainer.world_size > 1:
            raise UserError(f"nar predict runs in one process, given {self.trainer.world_size}: --trainer.devices 1")
        self._give_weights()
        predictions = self.trainer.predict(self.model, datamodule=self.datamodule)
        _write_predictions(predictions or [], Path(self.trainer.default_root_dir) / "predictions")

    def _give_weights(self) -> None:
        """Give the model the weights of the checkpoint, which is needed for nothing else in evaluation."""
        give_weights(self.model, self.config.ckpt_path, self.checkpoint)

    def _callback(self, kind: type[Any]) -> Any:
        """The trainer's callback of this class, of which there is one."""
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        (found,) = (callback for callback in callbacks if isinstance(callback, kind))
        return found

    def _say_what_ended_it(self, otherwise: signal.Signals | None, *, is_saved: bool) -> None:
        """Raise a SystemExit with the status of the signal that came, or of another if none was noticed."""
        came = self._callback(StopOnSignal).signal
        number = otherwise if came is None else signal.Signals(came)
        if number is not None and self.trainer.is_global_zero:
            advice = "; go on by --ckpt_path last" if is_saved and self.lock is not None else ""
            print(f"nar: ended by {number.name} after step {self.trainer.global_step}{advice}", file=sys.stderr)
            raise SystemExit(128 + number) from None


def until(max_steps: int, lr_scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """A scheduler that may be told the number of all steps, and has not been, with that number."""
    arguments = dict(lr_scheduler.get("init_args", {}))
    if "total_steps" in arguments and arguments["total_steps"] is None:
        arguments["total_steps"] = max_steps
    return {"class_path": lr_scheduler["class_path"], "init_args": arguments}


def _check_learning_rates(learning_rate: float, optimizer: Mapping[str, Any]) -> None:
    """Raise a :class:`UserError` if the learning rate of Adam is given, and another optimizer with one of its own."""
    usual = signature(Reasoner).parameters["learning_rate"].default
    lr = optimizer.get("init_args", {}).get("lr")
    if learning_rate not in (usual, lr):
        raise UserError(
            f"expected --optimizer.lr in place of --model.learning_rate, which no other optimizer has;"
            f" given {lr} and {learning_rate}"
        )


def _with_parts(config: Namespace, checkpoint: Mapping[str, Any]) -> Namespace:
    """Settings with the language model, the reasoner and the tokenizer that a checkpoint has, if it has.

    No other file is then needed to make them.
    """
    if not checkpoint or kind_of(config_of(checkpoint)) != "text":
        return config
    parts = import_module("nar.hybrid.parts").check_parts(config_of(checkpoint).get("parts"))
    config = config.clone()
    config.model.language_model, config.model.reasoner = parts["language_model"], parts["reasoner"]
    config.data.tokenizer = parts["tokenizer"]
    return config


def _write_predictions(predictions: Sequence[Any], folder: Path) -> None:
    """Write the outputs of batches, one safetensors file for each algorithm and size."""
    parts: dict[tuple[str, int], dict[str, list[torch.Tensor]]] = defaultdict(lambda: defaultdict(list))
    for key, outputs in predictions:
        for name, value in outputs.items():
            parts[key][name].append(value.cpu())
    folder.mkdir(parents=True, exist_ok=True)
    for (algorithm, num_nodes), by_output in parts.items():
        path = folder / f"{algorithm}_{num_nodes}.safetensors"
        with replacing(path) as file:
            file.write(save({name: torch.cat(values) for name, values in by_output.items()}))
        print(f"written: {path}")


class Rehearsal(TrainCLI):
    """Does with the arguments of ``nar fit`` what comes before anything is trained."""

    def instantiate_classes(self) -> None:
        """Instantiate the model and the data, but nothing of the trainer, which may open files."""
        self.max_steps = self.config.trainer.max_steps
        self.algorithms = self.plain_config()["data"]["algorithms"]
        del self.config["trainer"]
        with refusing(), Room(COPIES_IN_TRAINING):
            made = self.parser.made(self.config)
        if self.kind is KINDS["text"]:
            self.kind.prepare(made.model, made.data)


def rehearse(flags: Sequence[str], sizes: Sequence[int] | None = None) -> dict[str, Any]:
    """The kind of models, the algorithms, the sizes of tests and the number of training steps of ``nar fit`` with these
    flags.

    Args:
        flags: Of the command.
        sizes: Of tests; if not given, those of a language model are as its data has them, and of others None.

    Raises:
        UserError: If it would not take them.
    """
    check_given(flags)
    choice = choose(flags)
    if choice.kind is KINDS["sparse"]:
        raise UserError(f"nar sweep trains no models of sparse graphs: expected no {choice.kind.class_paths['model']}")
    if choice.kind is KINDS["text"] and sizes:
        choice = choice._replace(args=[*choice.args, "--data.test_sizes", json.dumps(list(sizes))])
    rehearsal = Rehearsal("fit", choice)
    if choice.kind is KINDS["text"] and sizes is None:
        sizes = rehearsal.config.data.test_sizes
    known = {"kind": choice.kind.name, "algorithms": rehearsal.algorithms, "sizes": sizes}
    return {**known, "max_steps": rehearsal.max_steps}


def run(command: str, args: Sequence[str]) -> None:
    """Run ``nar fit``, ``validate``, ``test`` or ``predict``.

    Raises:
        UserError: If it cannot be done.
    """
    silence_noise()
    keep_freed_memory()
    check_given(args)
    choice = choose(args)
    if command not in choice.kind.commands:
        known = [kind.class_paths["model"] for kind in KINDS.values() if command in kind.commands]
        raise UserError(f"nar {command} expects a {' or '.join(known)}, given a {choice.kind.class_paths['model']}")
    try:
        TrainCLI(command, choice).run()
    finally:
        gc.unfreeze()  # who calls this from Python has what was frozen collected again
