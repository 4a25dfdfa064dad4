"""Callbacks for ``--trainer.callbacks``."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from nar.batch import Batch
from nar.latent_plots import draw_pca
from nar.latents import collect
from nar.module import Reasoner


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
        """Take the batches."""
        for batch in trainer.datamodule.val_dataloader():  # type: ignore[attr-defined]
            self.batches.setdefault(batch.algorithm, batch)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Draw, if it is time to."""
        step = trainer.global_step
        if step == self.last_step or step % self.every_n_steps or not trainer.is_global_zero:
            return
        self.last_step = step
        assert isinstance(pl_module, Reasoner)
        folder = Path(trainer.default_root_dir) / "latents"
        folder.mkdir(parents=True, exist_ok=True)
        for algorithm, batch in self.batches.items():
            title = f"{algorithm}, n = {batch.num_nodes}, after {step} training steps"
            draw_pca(collect(pl_module.model, [batch]), title, folder / f"pca_{algorithm}_{step}.png")
