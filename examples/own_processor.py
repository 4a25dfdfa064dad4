"""Train a processor of your own beside one of the library, and test both on larger graphs: python own_processor.py"""

import torch
from jsonargparse import auto_cli
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor, nn

from nar import CLRS30, Reasoner
from nar.ops.process import tune_process
from nar.processor import Processor
from nar.processors import PGN


class GatedMean(Processor):
    """Every node takes the mean of its senders' messages, each behind a gate that the pair's features open."""

    is_separable = True  # what a graph comes to depends on no other graph of the batch

    def __init__(self, hidden_dim: int = 64) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.message = nn.Linear(2 * hidden_dim, hidden_dim)
        self.gate = nn.Linear(hidden_dim, hidden_dim)
        self.update = nn.Linear(3 * hidden_dim, hidden_dim)

    def forward(
        self, node_fts: Tensor, edge_fts: Tensor, graph_fts: Tensor, adj: Tensor, hidden: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """The next node states [B, N, H], and no states of pairs."""
        z = torch.cat([node_fts + graph_fts[:, None], hidden], dim=-1)  # [B, N, 2H]
        messages = self.message(z)[:, :, None] * self.gate(edge_fts).sigmoid()  # [B, sender, receiver, H]
        is_heard = adj[..., None].to(messages.dtype)
        heard = (is_heard * messages).sum(dim=1) / is_heard.sum(dim=1).clamp(min=1)
        return self.update(torch.cat([z, heard], dim=-1)).relu(), None


def scores(processor: Processor, steps: int, sizes: list[int]) -> dict[int, float]:
    """The share of right predecessors on the official test split of each size, after training at n ≤ 16."""
    seed_everything(0, verbose=False)
    data = CLRS30("bfs", test_sizes=sizes)
    model = Reasoner(data.specs, processor)
    tune_process()  # operations this small are fastest on one core
    writes_nothing = {"logger": False, "enable_checkpointing": False}
    trainer = Trainer(max_steps=steps, limit_val_batches=0, gradient_clip_val=1.0, accelerator="cpu", **writes_nothing)
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    return {num_nodes: by_name["score"] for (_, num_nodes), by_name in model.scores.items()}


def main(steps: int = 500, hidden_dim: int = 64, sizes: list[int] = [16, 32, 64]) -> None:  # noqa: B006
    """Train both processors for so many steps, and print their scores at these sizes."""
    print("processor", *(f"n = {size}" for size in sizes), sep="\t")
    for processor in (GatedMean(hidden_dim), PGN(hidden_dim)):
        by_size = scores(processor, steps, sizes)
        print(type(processor).__name__, *(f"{by_size[size]:.3f}" for size in sizes), sep="\t")


if __name__ == "__main__":
    auto_cli(main)
