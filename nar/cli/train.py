"""The commands of ``nar`` that run a model, by Lightning's command line."""

from nar.ops.process import keep_freed_memory, tune_process, wait_passively

wait_passively()  # before torch is imported

import argparse
import gc
import inspect
import json
import logging
import math
import os
import signal
import sys
import warnings
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from traceback import walk_tb
from typing import Any, Literal

from nar.cli.optional import taken_for_missing

with taken_for_missing("matplotlib", "scipy", "transformers"):
    import lightning.pytorch  # noqa: F401

import torch
import yaml
from filelock import FileLock
from jsonargparse import Namespace
from jsonargparse.typing import NonNegativeInt
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import ProgressBar, TQDMProgressBar, WeightAveraging
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from safetensors.torch import save
from torch.optim.lr_scheduler import LRScheduler
from torch.overrides import TorchFunctionMode

import nar.analysis.callbacks  # whose classes, and those of the schedules, can then be named without their modules
import nar.processors
import nar.training.schedules
from nar.cli.parser import check_algorithms, origin, parameters_below, refusing
from nar.cli.refusals import CLASS, reason, translated, with_flag, with_setting
from nar.cli.settings import check_config, check_seed, check_trainer, check_values, check_yaml
from nar.configuration import check_plain
from nar.datasets import ALGORITHMS, CLRS30, Algorithm
from nar.datasets.engine.memory import num_free_bytes
from nar.errors import UserError, meant, one_line
from nar.files import lock_folder, release, replacing
from nar.noise import Noise
from nar.processor import Processor, SparseProcessor
from nar.training.checkpoint import (
    TO_GO_ON,
    config_of,
    holds_weights_only,
    kind_of,
    load_weights,
    making_model_of,
    read_checkpoint,
    run_of,
    with_new_names,
    write_checkpoint,
)
from nar.training.haiku import from_haiku, read_pickle, to_haiku, write_pickle
from nar.training.progress import ProgressLines, is_no_noise
from nar.training.reasoner import Reasoner
from nar.training.runs import (
    StopOnSignal,
    check_folder,
    checkpoints,
    clear_leftovers,
    requeued,
    resumable,
    write_whole_files,
)
from nar.training.saving import Kind, restore_changes, run_settings
from nar.training.sparse_reasoner import SparseReasoner
from nar.training.table import draw_scores, print_table, write_csv

RECIPE = {  # of Ibarz et al. (2022), as far as the trainer has a part in it
    "max_epochs": -1,  # training data has no end, and steps are what counts
    "max_steps": 10_000,
    "val_check_interval": 50,
    "check_val_every_n_epoch": None,
    "gradient_clip_val": 1.0,
    "log_every_n_steps": 10,
    "devices": 1,  # more of them make the batch larger, which is for the user to say
    "num_sanity_val_steps": 0,
    "reload_dataloaders_every_n_epochs": 1,  # the stream goes on where the last epoch, if it was cut short, ended
    "use_distributed_sampler": False,  # the data module deals out batches itself, none twice
}
CONVERT = {
    "usage": """nar convert --from-haiku best.pkl --config scripts/configs/clrs30.yaml --out model.ckpt
       nar convert --to-haiku best.pkl --ckpt_path model.ckpt""",
    "description": """Turn weights that dm-clrs saved into a checkpoint (--from-haiku), or a checkpoint into weights
    that dm-clrs restores (--to-haiku). The weights do not tell the model: with --from-haiku it is configured as for
    `nar fit`, by --config and by flags. The order of data.algorithms is that of the algorithms in dm-clrs's model.
    Nothing is trained; what is said of the trainer has no effect.""",
}
LATENTS = {
    "usage": "nar latents --ckpt_path runs/bellman_ford/best.ckpt [--split test --data.test_sizes [64]]",
    "description": """Look at a model's latent space as Mirjanić et al. (2023) do: states of nodes after every step,
    their principal components, whether they settle, how scores bear noise and, if the model knows bellman_ford, how
    far instances with the same shortest paths are from one another. What is said of the trainer has no effect.""",
}
WITHOUT_TRAINER = ("convert", "latents")
FIT: dict[Kind, str] = {
    "dense": "nar fit",
    "sparse": "nar salsa fit",
    "text": "nar fit with a language model",
}
SPARSE_PROCESSOR = {
    "class_path": "nar.processors.sparse.ConvProcessor",
    "init_args": {
        "conv": {
            "class_path": "nar.processors.sparse.PGNConv",
            "init_args": {"in_channels": 256, "out_channels": 128, "edge_dim": 128, "graph_dim": 128},
        },
    },
}
BYTES_OF_A_NUMBER = 4
COPIES_IN_TRAINING = 4  # of every parameter: its gradient and Adam's two moments besides
ONCE_BEGUN = ("advance", "_evaluation_step", "_predict_step")
"""Functions of Lightning's loops by which a batch goes."""
GROUPS = ("model", "data", "trainer")
MOST_PROCESSES = 8
"""On a CPU, if it has not more cores."""
FREE_IN_EVALUATION = (
    "hint_feedback",
    "learning_rate",
    "hint_teacher_forcing",
    "dropout",
    "latent_noise",
    "lr_scheduler",
    "penalties",
)
KEPT_OF_TRAINER = ("precision", "accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm")
OF_EVALUATION = "_in_evaluation"  # how the names of a processor's arguments end that are free then


class Parser(LightningArgumentParser):
    """A parser whose errors are one line.

    Attributes:
        first_arguments: What is read before the command line. The default processor is among them: as a default of the
            parser it would leave its own arguments to any other processor that is asked for.
    """

    first_arguments: tuple[str, ...] = ()

    def parse_args(self, args: Any = None, *more: Any, **kwargs: Any) -> Any:
        """Parse a command line."""
        if isinstance(args, list):
            args = [*self.first_arguments, *args]
        return super().parse_args(args, *more, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Raise a :class:`UserError` in place of printing usage and leaving."""
        raise UserError(translated(message)) from ex


class Room(TorchFunctionMode):
    """Refuses, while a model is made, more tensors than there is room for: the system would end the program later.

    Args:
        copies: How many of each there will be: gradients and what an optimizer keeps are as large.
    """

    def __init__(self, copies: int) -> None:
        super().__init__()
        self.copies = copies
        self.num_free = num_free_bytes()
        self.num_bytes = 0

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """What a function of torch returns, if there is room for what it makes."""
        kwargs = kwargs or {}
        if function in (torch.empty, torch.zeros, torch.ones, torch.randn, torch.rand):
            size = kwargs.get("size", args[0] if len(args) == 1 and not isinstance(args[0], int) else args)
            self.num_bytes += self.copies * BYTES_OF_A_NUMBER * math.prod(size)
            if self.num_bytes > self.num_free:
                gib = [f"{number / 2**30:.4g} GiB" for number in (self.num_bytes, self.num_free)]
                raise UserError(f"the model would take {gib[0]} or more, and {gib[1]} are free: make it smaller")
        return function(*args, **kwargs)


class CLI(LightningCLI):
    """LightningCLI whose checkpoints know their algorithms and their processor.

    Attributes:
        kind: Of the models that are trained.
        runs: Where runs have their folders.
        free_in_evaluation: Arguments of the model that need not be those of training then.
        kept_data: Arguments of the data that a run that goes on has as before.
    """

    kind: Kind = "dense"
    runs = Path("runs")
    free_in_evaluation: tuple[str, ...] = FREE_IN_EVALUATION
    kept_data: tuple[str, ...] = ("train_sizes", "batch_size", "chunk_length", "seed", "val_size")
    program = "nar"
    lock: FileLock | None = None

    def __init__(self, args: Sequence[str], *more: Any, **kwargs: Any) -> None:
        self.given_args = list(args)
        super().__init__(*more, **kwargs)

    def is_asked_for(self, command: str) -> bool:
        """Whether the parser of a command needs its arguments, which takes longer than all else in parsing."""
        first = "".join(self.given_args[:1])
        return first == command or first.startswith("-")  # before a command there may be a configuration of any

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The default processor, the specs of the data for the model, and what changes the learning rate."""
        assert isinstance(parser, Parser)
        parser.first_arguments = ("--model.processor", "TripletGMPNN")
        parser.link_arguments("data.specs", "model.specs", apply_on="instantiate")
        parser.add_lr_scheduler_args((LRScheduler,))
        parser.link_arguments("lr_scheduler", "model.lr_scheduler", as_plain)

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        """The parser of a command of Lightning's."""
        if self.is_asked_for(subcommand):
            return super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        return Parser(**kwargs)

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        """Lightning's, which are methods of its trainer, and those of a model that is neither trained nor tested."""
        super()._add_subcommands(parser, **kwargs)
        commands = parser._subcommands_action
        assert commands is not None
        parsers: dict[str, tuple[Callable[[], LightningArgumentParser], str]] = {
            "convert": (self._convert_parser, "Turn weights of dm-clrs into a checkpoint, or back."),
            "latents": (self._latents_parser, "Analyse the latent space of a model."),
        }
        for command, (make, text) in parsers.items():
            self._subcommand_parsers[command] = make() if self.is_asked_for(command) else Parser()
            commands.add_subcommand(command, self._subcommand_parsers[command], help=text)

    def _convert_parser(self) -> LightningArgumentParser:
        convert = self.init_parser(**CONVERT)
        self._add_arguments(convert)
        convert.add_argument("--from-haiku", type=str | None, help="The file to read, which dm-clrs saved.")
        convert.add_argument("--out", type=str | None, help="The checkpoint to write, with --from-haiku.")
        convert.add_argument("--to-haiku", type=str | None, help="The file to write, for dm-clrs to restore.")
        convert.add_argument("--ckpt_path", type=str | None, help="The checkpoint to read, with --to-haiku.")
        # Whatever else the YAML of a run may hold.
        convert.add_method_arguments(Trainer, "fit", skip={*self.subcommands()["fit"], "ckpt_path"})
        return convert

    def _latents_parser(self) -> LightningArgumentParser:
        latents = self.init_parser(**LATENTS)
        self._add_arguments(latents)
        latents.add_argument("--ckpt_path", type=str | None, help="The checkpoint to read.")
        latents.add_argument(
            "--out", type=str | None, help="Folder to write; 'latents' beside the checkpoint if not given."
        )
        latents.add_argument(
            "--split", type=Literal["validation", "test"], default="validation", help="What to run on."
        )
        latents.add_argument("--num_trajectories", type=int, default=64, help="How many to take of it, at least 2.")
        latents.add_argument(
            "--num_extra_steps", type=NonNegativeInt, default=16, help="To take after the longest's end."
        )
        return latents

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; where a checkpoint is named, again with its configuration as the defaults."""
        self.config = self._parsed(parser)
        self.command = self.config["subcommand"]
        given = self.config[self.command]
        check_algorithms(given.data.algorithms)
        if self.command == "convert":
            check_conversion(given)
        if self.command == "fit" and given.get("ckpt_path") is None and (saved := requeued(self._root())) is not None:
            given.ckpt_path = str(saved)
        if given.get("ckpt_path") is None:
            if self.command not in ("fit", "convert"):
                raise UserError(
                    f"{self.program} {self.command} needs a checkpoint: --ckpt_path {self.runs}/quickstart/best.ckpt"
                )
            return
        path = given.ckpt_path
        if path == "last":
            path = str(resumable(self._root()))
        self.checkpoint = read_checkpoint(path)
        if self.command == "fit" and holds_weights_only(self.checkpoint):
            raise UserError(f"{path} holds weights alone, from which no training can go on; expected one of nar fit")
        missing = [name for name in TO_GO_ON if name not in self.checkpoint]
        if self.command == "fit" and missing:
            raise UserError(f"{path} has no {missing[0]}, without which no training can go on: it is damaged")
        written = config_of(self.checkpoint)
        if kind_of(written) != self.kind:
            raise UserError(f"{path} is a checkpoint of {FIT[kind_of(written)]}, and no other reads it")
        subparser = self._parser(self.command)
        assert isinstance(subparser, Parser)
        subparser.first_arguments = ()
        try:
            check_plain({group: written[group] for group in ("model", "data")})
            defaults = {
                f"{group}.{name}": value for group in ("model", "data") for name, value in written[group].items()
            }
            scheduler = defaults.pop("model.lr_scheduler", None)  # has a name of its own on the command line
            subparser.set_defaults({**defaults, **({"lr_scheduler": scheduler} if scheduler else {})})
            as_written = self._plain(subparser.parse_args([]))
        except Exception as error:  # whatever a parser makes of what is no setting
            raise UserError(f"{path} was made with settings that are refused: {one_line(error)}") from error
        if self.command == "fit":
            subparser.set_defaults(self._settings_to_keep())
        self.config = self._parsed(parser)
        self.config[self.command].ckpt_path = path
        self._compare(path, as_written)

    def _parsed(self, parser: LightningArgumentParser) -> Namespace:
        """The configuration that the command line gives, if what can be told without making anything is right."""
        try:
            with refusing():
                config = parser.parse_args(self.given_args)
        except UserError as error:
            parameters = {name for kind in (Processor, Noise, Algorithm) for name in parameters_below(kind)}
            message = with_flag(str(error), self._flags(), parameters)
            if message.startswith(f"--model.processor: expected {CLASS}"):
                names, given = self._known_processors(), message.rpartition("given ")[2]
                own = "or the import path of a subclass of nar.processor.Processor"
                message += f"{meant(given, names)} (known processors: {', '.join(names)}; {own})"
            if message.startswith(f"--lr_scheduler: expected {CLASS}"):
                message += " (known are those of nar.training.schedules and torch.optim.lr_scheduler)"
            raise UserError(message) from error
        given = config[config.subcommand]
        check_values(given.as_dict())
        with refusing():
            check_nulls("", given.as_dict())
        if "seed_everything" in given:
            check_seed(given.seed_everything)
        if "trainer" in given:
            check_trainer(given.trainer)
        return config

    def _flags(self) -> set[str]:
        """Those of the command, with their dashes."""
        parser = self._subcommand_parsers.get("".join(self.given_args[:1]))
        return set() if parser is None else {*parser._option_string_actions}

    def _known_processors(self) -> list[str]:
        """The short names of processors that the model can have."""
        named = [getattr(nar.processors, name) for name in nar.processors.__all__]
        return [kind.__name__ for kind in named if isinstance(kind, type)]

    def _compare(self, path: str, written: dict[str, Any]) -> None:
        """Raise a :class:`UserError` if what was asked for is not what the checkpoint has."""
        asked = self._plain_config()
        ours, theirs = ([label(given) for given in config["data"]["algorithms"]] for config in (asked, written))
        resumes = self.command == "fit"
        # Of an optimiser without names the parameters are told by their order, which is that of the algorithms.
        in_order = resumes and not is_named(self.checkpoint)
        if sorted(ours) != sorted(theirs) or (in_order and ours != theirs):
            raise UserError(f"{path} is a checkpoint for {theirs}, but the configuration asks for {ours}")
        names = [("model", name) for name in asked["model"] if resumes or name not in self.free_in_evaluation]
        names += [("data", name) for name in self.kept_data if resumes and name in asked["data"]]
        for group, name in names:
            value, old = asked[group][name], written[group][name]
            if value != old and (resumes or of_training(value) != of_training(old)):
                raise UserError(f"{path} was made with {group}.{name} {old}, but the configuration asks for {value}")

    def _settings_to_keep(self) -> dict[str, Any]:
        """Settings of the checkpoint's run, which are those of a run that goes on unless it is told others."""
        run = run_of(self.checkpoint)
        kept = {f"trainer.{name}": run[name] for name in KEPT_OF_TRAINER if run.get(name) is not None}
        seed = run.get("seed_everything")
        return kept if seed is None else {**kept, "seed_everything": seed}

    def _compare_run(self) -> None:
        """Raise a :class:`UserError` if a run that goes on would take other steps than before."""
        asked = run_settings(self.trainer)
        for name, old in run_of(self.checkpoint).items():
            if name in asked and old is not None and asked[name] != old:
                flag = name if name == "seed_everything" else f"trainer.{'devices' if name == 'world_size' else name}"
                raise UserError(
                    f"{self.config.fit.ckpt_path} was made with {flag} {old}, but the configuration asks for "
                    f"{asked[name]}"
                )

    def _parse_ckpt_path(self) -> None:
        """Nothing: Lightning would let a checkpoint override the command line; `parse_arguments` sees to it."""

    def _plain_config(self) -> dict[str, Any]:
        """``model`` and ``data`` as plain values."""
        return self._plain(self.config[self.command])

    def _plain(self, config: Namespace) -> dict[str, Any]:
        """The same of a configuration of this command."""
        text = self._parser(self.command).dump(config, format="json", skip_none=False, skip_validation=True)
        content = json.loads(text)
        plain = {group: content[group] for group in ("model", "data")}
        if "lr_scheduler" in content:
            plain["model"]["lr_scheduler"] = content["lr_scheduler"]
        plain["data"] = with_new_names(plain["data"])
        given = plain["data"]["algorithms"]
        given = given if isinstance(given, list) else [given]
        plain["data"]["algorithms"] = list(ALGORITHMS) if given == ["all"] else given
        return plain

    def _root(self) -> Path:
        """The run's folder: that of the checkpoint in evaluation, or named after the algorithm, unless it is given."""
        config = self.config[self.command]
        if config.trainer.default_root_dir is not None:
            return Path(config.trainer.default_root_dir)
        if self.command != "fit":
            return Path(config.ckpt_path).parent
        names = [label(given) for given in self._plain_config()["data"]["algorithms"]]
        return self.runs / (names[0].partition("(")[0].rpartition(".")[2] if len(names) == 1 else "several")

    def before_instantiate_classes(self) -> None:
        """Fill in what follows from other settings."""
        config = self.config[self.command]
        if config.data.seed is None and not isinstance(config.seed_everything, bool):
            config.data.seed = config.seed_everything
        if self.command in WITHOUT_TRAINER:
            del config["trainer"]  # or the loggers and callbacks in it would be instantiated
        else:
            config.trainer.default_root_dir = str(self._root())
            if config.model.get("lr_scheduler") is not None:
                config.model.lr_scheduler = until(config.trainer.max_steps, config.model.lr_scheduler)

    def instantiate_classes(self) -> None:
        """Instantiate; what a constructor says of its arguments is for the user."""
        with refusing(), Room(COPIES_IN_TRAINING if self.command == "fit" else 1):
            if self.command in WITHOUT_TRAINER:
                given = self.parser.instantiate_classes(self.config)[self.command]
                self.model, self.datamodule = given.model, given.data
                self._tell_what_they_are_made_from()
            else:
                super().instantiate_classes()
                self._tell_what_they_are_made_from()

    def _tell_what_they_are_made_from(self) -> None:
        self.model.made_from = self.datamodule.made_from = self._plain_config()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """A trainer that keeps the best and the last checkpoint, and logs, in its ``default_root_dir``."""
        config = self.config_init[self.command]
        root = Path(config.trainer.default_root_dir)
        if config.trainer.logger in (None, True):
            csv = CSVLogger(root, name="logs")
            kwargs["logger"] = [csv, TensorBoardLogger(root, name="logs", version=csv.version)]
        if config.trainer.limit_train_batches is None and config.trainer.max_steps > 0:
            # The stream of training data has no end: this tells the progress bar where training does.
            num_batches = config.trainer.max_steps * config.trainer.accumulate_grad_batches
            kwargs["limit_train_batches"] = num_batches
            if isinstance(config.trainer.val_check_interval, int):
                # Checkpoints are saved at validations, and no gradients that wait for others are in them.
                interval = -(-config.trainer.val_check_interval // config.trainer.accumulate_grad_batches)
                kwargs["val_check_interval"] = min(interval * config.trainer.accumulate_grad_batches, num_batches)
        given = config.trainer.callbacks or []
        callbacks: list[Callback] = list(given) if isinstance(given, list) else [given]
        extra: list[Callback] = []
        if config.trainer.enable_progress_bar is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            if sys.stdout.isatty():
                extra.append(TQDMProgressBar(refresh_rate=10))  # a GPU is waited for; Rich's would count epochs
            else:
                summary = config.trainer.enable_model_summary is not False
                extra.append(ProgressLines(counts_parameters=summary and self.command == "fit"))
                kwargs["enable_model_summary"] = False
        if self.command != "fit":
            kwargs["enable_checkpointing"] = False
        else:
            extra.append(StopOnSignal())
            averages = any(isinstance(callback, WeightAveraging) for callback in callbacks)
            if config.ckpt_path is not None and "averaging_state" in self.checkpoint and not averages:
                raise UserError(
                    f"{config.ckpt_path} was made with averaged weights: expected the same trainer.callbacks, given "
                    "none that averages them"
                )
        saves = self.command == "fit" and not config.trainer.fast_dev_run and not config.trainer.barebones
        saves = saves and config.trainer.enable_checkpointing is not False
        if saves:
            extra += checkpoints(root, callbacks)
        if config.trainer.barebones:
            kwargs |= {"logger": None, "log_every_n_steps": 0, "enable_checkpointing": False}
            extra = [callback for callback in extra if not isinstance(callback, ProgressBar)]
        try:
            trainer = super().instantiate_trainer(**kwargs, callbacks=[*callbacks, *extra])
        except UserError:
            raise
        except Exception as error:
            raise UserError(with_setting(reason(error), config.trainer.as_dict())) from error
        most = max(MOST_PROCESSES, os.cpu_count() or 1)
        if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > most:
            raise UserError(f"expected --trainer.devices of at most {most} on the CPU, given {trainer.num_devices}")
        if saves and trainer.is_global_zero:  # the other processes of a run write nothing
            self.lock = lock_folder(root)
            try:
                clear_leftovers(root)
                check_folder(root, config.ckpt_path)
            except BaseException:
                self._release_lock()
                raise
        write_whole_files(trainer)
        return trainer

    def before_fit(self) -> None:
        """Make small operations fast."""
        self.check_resumption()
        tune_process()

    def check_resumption(self) -> None:
        """Raise a :class:`UserError` if the checkpoint to go on from has other weights or was made by other steps."""
        if self.config.fit.ckpt_path is not None:
            self._compare_run()
            load_weights(self.model, self.checkpoint["state_dict"], self.config.fit.ckpt_path)

    def _run_subcommand(self, subcommand: str) -> None:
        """Run the command."""
        if subcommand == "convert":
            self.convert()
        elif subcommand == "latents":
            self.latents()
        else:
            try:
                if subcommand == "fit":
                    self.train()
                else:
                    super()._run_subcommand(subcommand)
            except Exception as error:
                if isinstance(error, UserError) or not is_of_settings(error):
                    raise
                raise UserError(with_setting(reason(error), self.config[self.command].trainer.as_dict())) from error

    def train(self) -> None:
        """Train.

        Raises:
            SystemExit: With status 130 or 143 if SIGINT or SIGTERM ended it.
            UserError: If the checkpoint to go on from is damaged.
        """
        try:
            super()._run_subcommand("fit")
        except SystemExit as error:
            is_signal = isinstance(error, SIGTERMException)
            if not (is_signal or isinstance(error.__context__, KeyboardInterrupt)) or not self.trainer.is_global_zero:
                raise
            self._say_what_ended_it(signal.SIGTERM if is_signal else signal.SIGINT, is_saved=is_signal)
        except (UserError, OSError):
            raise
        except Exception as error:
            if not self.trainer._checkpoint_connector._loaded_checkpoint:
                raise
            # What a damaged state leads to has no end.
            reason = f"{type(error).__name__}: {one_line(error)}"
            raise UserError(f"no training can go on from {self.config.fit.ckpt_path}: {reason}") from error
        else:
            self._say_what_ended_it(None, is_saved=True)
        finally:
            self._release_lock()

    def _say_what_ended_it(self, otherwise: signal.Signals | None, *, is_saved: bool) -> None:
        """Raise a SystemExit with the status of the signal that came, or of another if none was noticed."""
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        (stop,) = (callback for callback in callbacks if isinstance(callback, StopOnSignal))
        number = otherwise if stop.signal is None else signal.Signals(stop.signal)
        if number is not None and self.trainer.is_global_zero:
            advice = "; go on by --ckpt_path last" if is_saved and self.lock is not None else ""
            print(f"nar: ended by {number.name} after step {self.trainer.global_step}{advice}", file=sys.stderr)
            raise SystemExit(128 + number) from None

    def _release_lock(self) -> None:
        if self.lock is not None:
            release(self.lock)
            self.lock = None

    def convert(self) -> None:
        """Turn weights of dm-clrs into a checkpoint, or back."""
        config = self.config[self.command]
        reads_haiku = config.from_haiku is not None
        source, target = (config.from_haiku, config.out) if reads_haiku else (config.ckpt_path, config.to_haiku)
        if Path(source).resolve() == Path(target).resolve():
            raise UserError(f"nar convert expects two different files, given {target} to read and to write")
        if reads_haiku:
            self.model.model.load_state_dict(from_haiku(read_pickle(source), self.model.model))
            with replacing(target) as file:
                write_checkpoint(file, self.model, self.datamodule)
        else:
            self.load_weights()
            with replacing(target) as file:
                write_pickle(file, to_haiku(self.model.model))
        print(f"written: {target}")

    def latents(self) -> None:
        """Write what is to be known of the model's latent space."""
        from nar.analysis.latents import first_of_each
        from nar.analysis.report import write_latents  # here, as matplotlib takes long to be imported
        from nar.datasets.clrs30.samplers import CLRS_30
        from nar.datasets.clrs30.symmetries import BELLMAN_FORD, SYMMETRIES, study

        config = self.config[self.command]
        if config.num_trajectories < 2:
            raise UserError(f"expected num_trajectories ≥ 2, given {config.num_trajectories}")
        self.load_weights()
        data = self.datamodule
        loader = data.val_dataloader() if config.split == "validation" else data.test_dataloader()
        batches = first_of_each(loader, config.num_trajectories)
        is_studied = CLRS_30[BELLMAN_FORD] in data.algorithms
        sizes = [num_nodes for algorithm, num_nodes in batches if is_studied and algorithm == BELLMAN_FORD]
        studies = {n: {symmetry: study(symmetry, num_nodes=n) for symmetry in SYMMETRIES} for n in sizes}
        folder = Path(config.ckpt_path).parent / "latents" if config.out is None else Path(config.out)
        extra = config.num_extra_steps
        try:
            paths = write_latents(self.model.model, self.model.specs, batches, studies, folder, num_extra_steps=extra)
        except ValueError as error:
            raise UserError(str(error)) from error
        for path in paths:
            print(f"written: {path}")

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """In evaluation the weights are all that a checkpoint is needed for."""
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        if subcommand != "fit":
            self.load_weights()
            kwargs["ckpt_path"] = None
        if subcommand in ("validate", "test"):
            kwargs["verbose"] = False  # the scores are printed as a table of ours
        return kwargs

    def load_weights(self) -> None:
        """Give the model the weights of the checkpoint, in its own precision, and what else was changed in it."""
        path = self.config[self.command].ckpt_path
        with making_model_of(path):
            restore_changes(self.model, {"changed": config_of(self.checkpoint).get("changed", {})})
        load_weights(self.model, self.checkpoint["state_dict"], path)

    def after_validate(self) -> None:
        """Print the scores."""
        if self.trainer.is_global_zero:
            print_table(self.model.scores, "validation")

    def after_test(self) -> None:
        """Print the scores, and write them beside the checkpoint as ``ood.csv`` and ``ood.png``."""
        if self.trainer.is_global_zero:
            graphs = self.config[self.command].data.test_graphs
            name = "ood" if graphs is None else f"ood_{graphs}"
            table, picture = (Path(self.trainer.default_root_dir) / f"{name}.{kind}" for kind in ("csv", "png"))
            print_table(self.model.scores, "test")
            write_csv(self.model.scores, table)
            draw_scores(self.model.scores, picture)
            print(f"written: {table} and {picture}")

    def predict(self, **kwargs: Any) -> None:
        """Write the predicted outputs, one safetensors file for each algorithm and size."""
        if self.trainer.world_size > 1:
            raise UserError(f"nar predict runs in one process, given {self.trainer.world_size}: --trainer.devices 1")
        parts: dict[tuple[str, int], dict[str, list[torch.Tensor]]] = defaultdict(lambda: defaultdict(list))
        for key, outputs in self.trainer.predict(**kwargs) or []:
            for name, value in outputs.items():
                parts[key][name].append(value.cpu())
        folder = Path(self.trainer.default_root_dir) / "predictions"
        folder.mkdir(parents=True, exist_ok=True)
        for (algorithm, num_nodes), by_output in parts.items():
            path = folder / f"{algorithm}_{num_nodes}.safetensors"
            with replacing(path) as file:
                file.write(save({name: torch.cat(values) for name, values in by_output.items()}))
            print(f"written: {path}")


class SalsaCLI(CLI):
    """The commands for sparse graphs, after ``nar salsa``: those that train and test."""

    kind = "sparse"
    runs = Path("runs/salsa")
    program = "nar salsa"

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's but for ``predict``."""
        return {name: skipped for name, skipped in LightningCLI.subcommands().items() if name != "predict"}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The default processor, the specs of the data for the model, and what changes the learning rate."""
        super().add_arguments_to_parser(parser)
        assert isinstance(parser, Parser)
        parser.first_arguments = ("--model.processor", json.dumps(SPARSE_PROCESSOR))

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        """Lightning's."""
        LightningCLI._add_subcommands(self, parser, **kwargs)

    def _known_processors(self) -> list[str]:
        """The short names of processors that the model can have."""
        return [kind.__name__ for kind in SparseProcessor.__subclasses__() if kind.__module__.startswith("nar.")]


class TextCLI(CLI):
    """The commands that train and test a language model that reads a reasoner's states.

    Checkpoints hold what the language model, the reasoner and the tokenizer are made of, and these are made of that
    when a checkpoint is named, so that no other file is needed.
    """

    kind = "text"
    free_in_evaluation = (
        "adaptive_temperature",
        "freeze_reasoner",
        "learning_rate",
        "loss_on",
        "positions_in_evaluation",
        "warmup_steps",
        "weight_decay",
    )
    kept_data = ("train_sizes", "batch_size", "hints", "tokenizer", "seed")

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Lightning's but for ``predict``."""
        return {name: skipped for name, skipped in LightningCLI.subcommands().items() if name != "predict"}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The tokenizer and the algorithms of the data for the model; the language model may be a checkpoint's."""
        assert isinstance(parser, Parser)
        parser.first_arguments = ("--model.language_model", "")
        for name in ("tokenizer", "algorithms"):
            parser.link_arguments("data", f"model.{name}", attrgetter(name), apply_on="instantiate")

    def _add_subcommands(self, parser: LightningArgumentParser, **kwargs: Any) -> None:
        """Lightning's."""
        LightningCLI._add_subcommands(self, parser, **kwargs)
        text = "The answers.csv of another model's test on the same texts, to report beside."
        self._subcommand_parsers["test"].add_argument("--baseline", type=str | None, help=text)

    def _root(self) -> Path:
        """The run's folder, named after the model."""
        config = self.config[self.command]
        if config.trainer.default_root_dir is not None or self.command != "fit":
            return super()._root()
        return self.runs / ("transformer" if config.model.language_model_only else "transnar")

    def instantiate_classes(self) -> None:
        """Instantiate; of a checkpoint, with the parts that it has."""
        self.given = self.config
        if self.config[self.command].get("ckpt_path") is not None:
            parts = import_module("nar.hybrid.module").check_parts(config_of(self.checkpoint).get("parts"))
            self.config = self.config.clone()
            config = self.config[self.command]
            config.model.language_model = parts["language_model"]
            config.model.reasoner = parts["reasoner"]
            config.data.tokenizer = parts["tokenizer"]
        super().instantiate_classes()

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """As for other models."""
        self.config = self.given
        return super().instantiate_trainer(**kwargs)

    def before_fit(self) -> None:
        """Refuse texts that are too long, those of tests too; operations are large enough for all cores."""
        self.check_resumption()
        for text in self.datamodule.largest_texts():
            self.model.check_length(text, text.input_ids.shape[1])

    def after_validate(self) -> None:
        """Print the scores."""
        if self.trainer.is_global_zero:
            print_table(self.model.scores, "validation")

    def before_test(self) -> None:
        """Read what to report beside, before anything is answered."""
        self.baseline = import_module("nar.cli.ask").read_baseline(self.config[self.command].baseline)

    def after_test(self) -> None:
        """Print how right the answers are, and write it beside the checkpoint as ``answers.csv``, .md and .png."""
        if self.trainer.is_global_zero:
            self.model.to(self.trainer.strategy.root_device)
            commands = import_module("nar.cli.ask")
            commands.report_test(self.model, self.datamodule, Path(self.trainer.default_root_dir), self.baseline)


def is_of_settings(error: BaseException) -> bool:
    """Whether Lightning refuses something, or what it was given does before a batch is there and code of ours runs."""
    calls = [(frame.f_globals.get("__name__", ""), frame.f_code.co_name) for frame, _ in walk_tb(error.__traceback__)]
    ours = any(module.startswith("nar.") and module != __name__ for module, _ in calls)
    has_begun = any(function in ONCE_BEGUN for _, function in calls)
    return origin(error).startswith("lightning.") or not (ours or has_begun)


def check_nulls(name: str, given: Any) -> None:
    """Raise a :class:`UserError` if the argument of a class is null and cannot be: the parser takes it for not given.

    Args:
        name: Of the setting, as a flag has it without its dashes.
        given: Its value as plain values.
    """
    if isinstance(given, list):
        for value in given:
            check_nulls(name, value)
    if not isinstance(given, dict):
        return
    if "class_path" not in given:
        for key, value in given.items():
            check_nulls(f"{name}.{key}".lstrip("."), value)
        return
    path, _, of_class = given["class_path"].rpartition(".")
    arguments = given.get("init_args", {})
    for argument, value in arguments.items():
        check_nulls(f"{name}.{argument}", value)
        if value is None:
            parser = Parser()
            kind = getattr(import_module(path), of_class)
            others = {*arguments, *inspect.signature(kind).parameters} - {argument}  # some are given by others
            parser.add_class_arguments(kind, name, skip=others, sub_configs=True)
            parser.parse_args([f"--{name}.{argument}", "null"])


def as_plain(given: Namespace | None) -> dict[str, Any] | None:
    """What is configured of a class as plain values."""
    return None if given is None else given.as_dict()


def until(max_steps: int, lr_scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """A scheduler that may be told the number of all steps, and has not been, with that number."""
    arguments = dict(lr_scheduler.get("init_args", {}))
    if "total_steps" in arguments and arguments["total_steps"] is None:
        arguments["total_steps"] = max_steps
    return {"class_path": lr_scheduler["class_path"], "init_args": arguments}


class Rehearsal(CLI):
    """Does with the arguments of a command what comes before anything is trained."""

    def instantiate_classes(self) -> None:
        """Instantiate the model and the data, but nothing of the trainer, which may open files."""
        self.max_steps = self.config[self.command].trainer.max_steps
        self.algorithms = self._plain_config()["data"]["algorithms"]
        del self.config[self.command]["trainer"]
        with refusing(), Room(COPIES_IN_TRAINING):
            self.parser.instantiate_classes(self.config)

    def _run_subcommand(self, subcommand: str) -> None:
        """Train nothing."""


def rehearse(flags: Sequence[str]) -> dict[str, Any]:
    """The algorithms and the number of training steps of ``nar fit`` with these flags.

    Raises:
        UserError: If it would not take them.
    """
    args = ["fit", *flags]
    check_configs(args)
    if is_of_text(args):
        raise UserError("nar sweep trains reasoners of dense graphs: expected no language model")
    rehearsal = Rehearsal(args, Reasoner, CLRS30, **COMMON)
    return {"algorithms": rehearsal.algorithms, "max_steps": rehearsal.max_steps}


COMMON: dict[str, Any] = {  # of all command lines
    "parser_class": Parser,
    "trainer_defaults": RECIPE,
    "seed_everything_default": 42,
    "save_config_kwargs": {"overwrite": True},
    "auto_configure_optimizers": False,
}


def label(algorithm: str | dict[str, Any]) -> str:
    """A name as it is, a class as its instance is written in Python."""
    if not isinstance(algorithm, dict):
        return str(algorithm)
    args = {**algorithm.get("init_args", {}), **algorithm.get("dict_kwargs", {})}
    written = ", ".join(f"{name}={args[name]!r}" for name in sorted(args))
    return f"{algorithm['class_path']}({written})"


def is_named(checkpoint: Mapping[str, Any]) -> bool:
    """Whether the optimiser's state tells whose each part is."""
    with suppress(KeyError, TypeError):
        states = checkpoint["optimizer_states"]
        return all("param_names" in group for state in states for group in state["param_groups"])
    return True  # what is wrong with it is said where training goes on


def of_training(setting: Any) -> Any:
    """A setting without what a class has for evaluation alone."""
    if not isinstance(setting, dict) or "init_args" not in setting:
        return setting
    arguments = setting["init_args"].items()
    return {**setting, "init_args": {name: x for name, x in arguments if not name.endswith(OF_EVALUATION)}}


def check_conversion(given: Namespace) -> None:
    """Raise a :class:`UserError` unless one direction is asked for, with what it needs and nothing else."""
    if (given.from_haiku is None) == (given.to_haiku is None):
        number = "neither" if given.from_haiku is None else "both"
        raise UserError(f"nar convert expects one of --from-haiku and --to-haiku, given {number}")
    flag, needed, excess = "--from-haiku", "out", "ckpt_path"
    if given.from_haiku is None:
        flag, needed, excess = "--to-haiku", excess, needed
    if given[needed] is None:
        raise UserError(f"nar convert {flag} needs a checkpoint: --{needed} model.ckpt")
    if given[excess] is not None:
        raise UserError(f"nar convert {flag} expects --{needed} and no --{excess}, given {given[excess]}")


def salsa_classes() -> tuple[type[CLI], type[LightningModule], type[LightningDataModule]]:
    """The command line, the model and the data for sparse graphs.

    Raises:
        UserError: If PyTorch Geometric is not installed.
    """
    try:
        salsa = import_module("nar.datasets.salsa.datamodule")
    except ImportError as error:
        raise UserError(str(error)) from error
    return SalsaCLI, SparseReasoner, salsa.SALSA


def check_configs(args: Sequence[str]) -> None:
    """Raise a :class:`UserError` if what is given as YAML is none, or no settings by name."""
    check_yaml(args)
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-c", "--config", action="append", default=[])
    with suppress(argparse.ArgumentError):
        for config in parser.parse_known_args(args)[0].config:
            check_config(config, GROUPS)


def is_of_text(args: Sequence[str]) -> bool:
    """Whether a command line is about a language model: by its flags, its configuration or its checkpoint."""
    command, *rest = args or [""]
    if command not in TextCLI.subcommands():
        return False
    if any(arg.startswith("--model.language_model") for arg in rest):
        return True
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-c", "--config", action="append", default=[])
    parser.add_argument("--ckpt_path")
    with suppress(argparse.ArgumentError, OSError, ValueError, AttributeError, TypeError, yaml.YAMLError):
        given, _ = parser.parse_known_args(rest)
        for path in given.config:
            config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
            if "language_model" in config.get(command, config).get("model", {}):
                return True
        if given.ckpt_path not in (None, "last"):
            return kind_of(config_of(read_checkpoint(given.ckpt_path))) == "text"
    return False  # what is wrong with the arguments is said where they are parsed


def text_classes() -> tuple[type[CLI], type[LightningModule], type[LightningDataModule]]:
    """The command line, the model and the data for language models.

    Raises:
        UserError: If transformers is not installed.
    """
    try:
        module, data = import_module("nar.hybrid.module"), import_module("nar.datasets.text.datamodule")
    except ImportError as error:
        raise UserError(
            f'a language model needs transformers: pip install "transformers>=5.24,<6" ({error})'
        ) from error
    return TextCLI, module.LanguageReasoner, data.CLRSText


def ask(args: list[str]) -> None:
    """Run ``nar ask``.

    Raises:
        UserError: If transformers is not installed.
    """
    text_classes()
    import_module("nar.cli.ask").ask(args)


def run(args: Sequence[str]) -> None:
    """Do what a command line says.

    Raises:
        UserError: If it cannot be done.
    """
    # Splits are in memory and need no workers; the training stream continues where it was (Lightning cannot know).
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)  # Lightning's, beside torch 2.13
    warnings.filterwarnings("ignore", message=".*sync_dist=True.*")  # what is logged is of all processes already
    warnings.filterwarnings("ignore", message=".*resuming from a checkpoint that ended before the epoch ended.*")
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # a frozen reasoner
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(is_no_noise)
    keep_freed_memory()
    try:
        command, *rest = args
        if command == "ask":
            return ask(rest)
        if command == "sweep":
            raise SystemExit(import_module("nar.cli.sweep").sweep(rest, rehearse))
        check_configs(args)
        command_line: type[CLI] = CLI
        model: type[LightningModule] = Reasoner
        data: type[LightningDataModule] = CLRS30
        if command == "salsa":
            command_line, model, data = salsa_classes()
            args = rest  # which is Lightning's
        elif is_of_text(args):
            command_line, model, data = text_classes()
        command_line(args, model, data, **COMMON)
    finally:
        gc.unfreeze()  # or libraries would complain, when Python ends, that some of theirs is left
