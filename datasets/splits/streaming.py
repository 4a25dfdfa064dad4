"""What all data have in common that are drawn without end and dealt out to processes."""

from typing import Any, TypeVar

from lightning.pytorch import LightningDataModule

from nar.configuration import KeepsArguments

_AnyBatch = TypeVar("_AnyBatch")


class StreamingData(KeepsArguments, LightningDataModule):
    """Data whose training stream a resumed run goes on with where it was.

    Attributes:
        num_batches_seen: How far the training stream has been used, by each process.
    """

    def __init__(self) -> None:
        super().__init__()
        self.num_batches_seen = 0

    def ranks(self) -> tuple[int, int]:
        """The number of this process among those that train, and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def on_after_batch_transfer(self, batch: _AnyBatch, dataloader_idx: int) -> _AnyBatch:
        """Count training batches as they are used, so that a resumed run goes on with the next one.

        They are not counted where they are drawn: workers and loaders draw ahead of what is used.
        """
        if self.trainer and self.trainer.training:
            self.num_batches_seen += 1
        return batch

    def state_dict(self) -> dict[str, Any]:
        """How far the training stream has been used."""
        return {"num_batches_seen": self.num_batches_seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the training stream from where it had been used to."""
        self.num_batches_seen = state_dict["num_batches_seen"]
