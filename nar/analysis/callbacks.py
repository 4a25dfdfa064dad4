"""Callbacks for ``--trainer.callbacks``."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from nar.analysis.latents import collect
from nar.batch import Batch
from nar.training.reasoner import Reasoner


class LatentPCA(Callback):
    """Draws the latent space of the validation data while a model is trained, into ``latents`` in the run's folder.

    Of each algorithm it takes the first validation batch. Training goes on as it would have without.

    Args:
        every_n_steps: After how many training steps to draw it again.
    """

    def __init__(self, every_n_steps: int = 100) -> None:
        if every_n_steps < 1:
            raise ValueError(f"expected every_n_steps ≥ 1, given {every_n_steps}")
        self.every_n_steps = every_n_steps
        self.batches: dict[str, Batch] = {}
        self.last_step = 0  # at which it was drawn: gradients of several batches may make one step

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the first validation batch of each algorithm."""
        for batch in trainer.datamodule.val_dataloader():  # type: ignore[attr-defined]
            self.batches.setdefault(batch.algorithm, batch)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Draw the latent space if `every_n_steps` have passed."""
        step = trainer.global_step
        if step == self.last_step or step % self.every_n_steps or not trainer.is_global_zero:
            return
        self.last_step = step
        assert isinstance(pl_module, Reasoner)
        folder = Path(trainer.default_root_dir) / "latents"
        folder.mkdir(parents=True, exist_ok=True)
        from nar.analysis.plots import draw_pca  # here, as matplotlib takes long to be imported

        for algorithm, batch in self.batches.items():
            title = f"{algorithm}, n = {batch.num_nodes}, after {step} training steps"
            draw_pca(collect(pl_module.model, [batch]), title, folder / f"pca_{algorithm}_{step}.png")


class AveragedWeights(WeightAveraging):
    """Validates, tests and saves an exponential moving average of the weights in place of the weights.

    After step t the average a is ``d a + (1 - d) w``, w being the weights and d the smaller of `decay` and
    ``t / (9 + t)``, so that it forgets the first weights soon. Training goes on as it would have without; a checkpoint
    has the average as the model's weights, and those that are trained besides.

    Args:
        decay: What the average keeps of itself at each step, at most.
    """

    def __init__(self, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"expected a decay in [0, 1), given {decay}")
        super().__init__(use_buffers=False, multi_avg_fn=self._average)
        self.decay = decay
        self.is_swapped = False
        """Whether the model and its average have changed places, as they do while the average is evaluated."""

    @torch.no_grad()
    def _average(self, averages: list[Tensor], weights: list[Tensor], num_averaged: Tensor) -> None:
        """Move the averages towards the weights."""
        assert self._average_model is not None
        number = int(self._average_model.n_averaged)  # the same as `num_averaged`, which is where the averages are
        torch._foreach_lerp_(averages, weights, 1 - min(self.decay, (1 + number) / (10 + number)))

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the average to the model's device; the number of steps that it is of stays on the CPU."""
        assert self._average_model is not None
        self._average_model.module.to(pl_module.device)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing: the last checkpoint, from which training can go on, is still to be saved."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the model."""
        self._copy_average_to_current(pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the weights back if validation was cut short, so that what is saved now is as always."""
        if self.is_swapped:
            self._swap_models(pl_module)

    def _swap_models(self, pl_module: LightningModule) -> None:
        super()._swap_models(pl_module)
        self.is_swapped = not self.is_swapped
