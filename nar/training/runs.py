"""What a run of training keeps in its folder, and how it ends so that it can be gone on with."""

import signal
import threading
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from nar.errors import UserError
from nar.files import remove_leftovers
from nar.training.checkpoint import WholeFiles

NAMES = ("best.ckpt", "last.ckpt")
_AGREED_EVERY = 10
"""After how many steps several processes ask one another whether a signal came."""


def resumable(root: Path) -> Path:
    """The checkpoint in a run's folder from which it goes on: the best, until there is a last one."""
    last, best = root / "last.ckpt", root / "best.ckpt"
    return best if best.exists() and not last.exists() else last


def requeued(root: Path) -> Path | None:
    """The checkpoint that a job of SLURM saved when it was told that it would start again; None if there is none."""
    if not SLURMEnvironment.detect():
        return None
    saved = [path for path in root.glob("hpc_ckpt_*.ckpt") if path.stem.rpartition("_")[2].isdigit()]
    return max(saved, key=lambda path: int(path.stem.rpartition("_")[2]), default=None)


def check_folder(root: Path, ckpt_path: str | None) -> None:
    """Raise a :class:`UserError` if a folder holds another run than that of the checkpoint to go on from."""
    is_taken = any((root / name).exists() for name in NAMES)
    if is_taken and (ckpt_path is None or Path(ckpt_path).parent.resolve() != root.resolve()):
        raise UserError(
            f"{root} holds the checkpoints of another run: go on with it by --ckpt_path last, or choose "
            "another --trainer.default_root_dir"
        )


def clear_leftovers(root: Path) -> None:
    """Remove the unfinished checkpoints of a run that was killed, whose folder this process has locked."""
    for path in {root / name for name in NAMES} | {root / "hpc_ckpt_1.ckpt"}:
        remove_leftovers(path)


def make_trainer_write_whole_files(trainer: Trainer) -> None:
    """Have a trainer replace checkpoints only by whole ones, unless the user gave it another way to write them."""
    strategy = trainer.strategy
    if type(strategy.checkpoint_io) is TorchCheckpointIO:
        strategy.checkpoint_io = WholeFiles()


def checkpoints(root: Path, given: list[Callback]) -> list[Callback]:
    """The callbacks that save the best and the last checkpoint, but for what one of the user's does."""
    where: dict[str, Any] = {"dirpath": root, "enable_version_counter": False}
    ours = [
        BestCheckpoint(monitor="val/score", mode="max", filename="best", **where),
        LastCheckpoint(filename="last", **where),
    ]
    theirs = {callback.state_key for callback in given}
    return [callback for callback in ours if callback.state_key not in theirs]


class _OfFolder(ModelCheckpoint):
    """A callback that saves into a run's folder, and finds its files again when the folder has been moved."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take the files in the folder for those that were in its former place."""
        assert self.dirpath is not None
        folder = Path(self.dirpath)

        def here(path: str) -> str:
            return str(folder / Path(path).name) if path else path

        paths = ("best_model_path", "kth_best_model_path", "last_model_path")
        moved = {name: here(state_dict[name]) for name in paths if name in state_dict}
        scores = {here(path): score for path, score in state_dict.get("best_k_models", {}).items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": scores, "dirpath": self.dirpath})


class BestCheckpoint(_OfFolder):
    """Saves a checkpoint whenever a validation has a better score than all before."""

    @property
    def state_key(self) -> str:
        """The key of Lightning's class, under which checkpoints have the state of this one."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)


class LastCheckpoint(_OfFolder):
    """Saves a checkpoint after every validation, and when training ends or a signal ends it."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the steps since the last checkpoint, if there are any."""
        super().on_train_end(trainer, pl_module)
        self._save_what_is_new(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save if a signal ended training: that was between two steps."""
        super().on_exception(trainer, pl_module, exception)
        if isinstance(exception, SIGTERMException):
            self._save_what_is_new(trainer)

    def _save_what_is_new(self, trainer: Trainer) -> None:
        if not self._should_skip_saving_checkpoint(trainer):
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))


class StopOnSignal(Callback):
    """Ends training when SIGINT or SIGTERM comes: after the step, or within a validation, but for the last, after the
    batch.

    A run that goes on from there validates again from the first batch. A second SIGINT ends the program at once. Of
    several processes each ends after the same step. What Lightning does when SLURM says that a job will be started
    again is done between steps too.

    Attributes:
        signal: The first that came.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.is_validating = False
        self.is_agreed = False
        self.generators: list[torch.Tensor] = []
        """The states of torch's random generators when the validation began."""
        self.restored: list[torch.Tensor] = []
        self.requeue: tuple[Any, int] | None = None
        self.is_to_requeue = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to listen for signals, that of SLURM too."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._note)
        environment = trainer._accelerator_connector.cluster_environment
        if isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
            requeue = environment.requeue_signal  # None on Windows, where there is no SIGUSR1
            handler = None if requeue is None else signal.getsignal(requeue)
            if requeue is not None and callable(handler):
                self.requeue = handler, requeue
                signal.signal(requeue, self._note_requeue)

    def _note(self, number: int, _: Any) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = self.signal or number

    def _note_requeue(self, *_: Any) -> None:
        self.is_to_requeue = True

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """End training if a signal came, unless gradients wait for those of other batches."""
        if trainer.fit_loop.epoch_loop._should_accumulate():
            return
        if trainer.world_size > 1 and trainer.global_step % _AGREED_EVERY:
            return
        if self._is_true_anywhere(trainer, self.signal is not None) and not self._is_last_step(trainer):
            self.is_agreed = True
            self._end(trainer, True)
        if self.requeue is not None and self._is_true_anywhere(trainer, self.is_to_requeue):
            self.is_to_requeue = True
            if not self._validates_next(trainer):
                self._requeue()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember what torch would draw next, and let several processes come to the end of their parts together."""
        self.is_validating = not trainer.sanity_checking
        if self.restored:
            _set_generators(self.restored)
            self.restored = []
        self.generators = _generators()
        if self.is_agreed and trainer.world_size > 1:
            self._end(trainer, False)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """End the validation if a signal came."""
        if self.signal is not None and trainer.world_size == 1 and not self._is_last_step(trainer):
            self._end(trainer, True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End training if a signal came during the validation of several processes."""
        self.is_validating = False
        if self.is_agreed:
            self._end(trainer, True)
        if self.is_to_requeue and trainer.world_size == 1:
            self._requeue()

    def state_dict(self) -> dict[str, Any]:
        """The generators as they were before a validation that has not ended, which has drawn from them."""
        return {"generators": self.generators} if self.is_validating else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next validation draw the same numbers as the one that did not end."""
        self.restored = list(state_dict.get("generators", []))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Within a validation, have Lightning begin it again: what was counted of its batches is not saved."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
        total, current = progress["total"], progress["current"]
        if self.is_validating:
            before = total["completed"] - current["completed"]
            total |= {"ready": before + 1, "started": before + 1, "processed": before, "completed": before}
            current |= {"ready": 1, "started": 1, "processed": 0, "completed": 0}
            progress["is_last_batch"] = False
        else:
            total |= dict.fromkeys(("ready", "started", "processed"), total["completed"])

    @staticmethod
    def _end(trainer: Trainer, ends: bool) -> None:
        """Tell Lightning's loops whether to raise a SIGTERMException after the step, or the batch of a validation."""
        trainer._signal_connector.received_sigterm = ends

    @staticmethod
    def _is_true_anywhere(trainer: Trainer, value: bool) -> bool:
        return value if trainer.world_size == 1 else bool(trainer.strategy.reduce_boolean_decision(value, all=False))

    @staticmethod
    def _is_last_step(trainer: Trainer) -> bool:
        """Whether no run would go on from here, and validate."""
        return 0 < trainer.max_steps <= trainer.global_step

    @staticmethod
    def _validates_next(trainer: Trainer) -> bool:
        fetcher = trainer.fit_loop._data_fetcher
        return fetcher is not None and trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)

    def _requeue(self) -> None:
        assert self.requeue is not None
        handler, number = self.requeue
        self.is_to_requeue = False
        handler(number, None)


def _generators() -> list[torch.Tensor]:
    return [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]


def _set_generators(states: list[torch.Tensor]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1 and len(states) == 1 + torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states[1:])
