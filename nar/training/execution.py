"""The ways to compute the losses of a batch of dense graphs, and their gradients.

The result is the same. A batch is computed plainly, or, where that is faster, as two halves on the two halves of a
CPU's cores, or on a GPU by a recording (see :mod:`nar.training.cuda_graphs`). In the last two ways gradients are there
with the losses, and autograd is given both.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.func import functional_call

from nar.batch import Batch
from nar.model.decoders import noise_of_rows
from nar.model.losses import losses, num_scored, reconstruction_losses
from nar.model.unroll import EncodeProcessDecode, Predictions
from nar.ops import parallel
from nar.ops.affine import gathered_gradients
from nar.ops.parallel import side_by_side
from nar.specs import Spec, Stage, Type, at_stage
from nar.training.cuda_graphs import Recorder

MIN_HALVED = 8
"""How many graphs a batch has at least that is computed in halves: the threads of smaller ones wait for each other."""

Losses = tuple[dict[str, Tensor], Tensor]
"""The losses of probes, of reconstructed hints, and the penalties by name, and their weighted sum."""
LossesAndGradients = tuple[dict[str, Tensor], Tensor, tuple[Tensor | None, ...]]
"""Losses and penalties by name, detached; their weighted sum; and its gradient by each trained parameter, None where a
parameter has no part in it."""


class _Trained(Protocol):
    """The parts of a :class:`nar.training.reasoner.Reasoner` that an :class:`Execution` needs."""

    model: EncodeProcessDecode
    penalties: dict[str, float]
    hint_loss: str
    specs: Any


class Execution:
    """Computes batches for a reasoner, each in the fastest way that there is for it.

    Args:
        reasoner: Its model, specs and penalties are looked up anew for every batch.
    """

    def __init__(self, reasoner: _Trained) -> None:
        self.reasoner = reasoner
        self.recorded_training = Recorder(self.losses_and_gradients)
        self.recorded_validation = Recorder(self.outputs_and_losses)

    def train(self, batch: Batch) -> Losses:
        """The losses of a training batch, as functions of the parameters."""
        if self.is_recorded(batch):
            return self._differentiable(*self.recorded_training(batch))
        if self.is_halved(batch):
            return self._differentiable(*self.losses_and_gradients_in_halves(batch))
        return self.losses(batch)

    def validate(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The logits of outputs, and the losses of probes."""
        return self.recorded_validation(batch) if self.is_recorded(batch) else self.outputs_and_losses(batch)

    def is_recorded(self, batch: Batch) -> bool:
        """Whether a batch is computed by a recording: on a GPU, if its trajectories are whole.

        Windows of trajectories are of too many shapes. Gradients in float16 have to be scaled before they are known.
        Penalties may draw what they look at on the CPU.
        """
        in_float16 = torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda") == torch.float16
        return self._is_on("cuda") and batch.ended is None and not in_float16 and not self.reasoner.penalties

    def is_halved(self, batch: Batch) -> bool:
        """Whether a batch is computed in halves: on a CPU, if graphs stay apart and steps draw nothing.

        Outside of the operations that use all cores one core would wait for the other.
        """
        model = self.reasoner.model
        hints = at_stage(self._spec(batch), Stage.HINT)
        draws = model.hint_teacher_forcing > 0 or model.dropout > 0 or model.latent_noise is not None
        draws = draws or any(probe.type is Type.PERMUTATION_POINTER for probe in hints.values())
        has_losses = bool(self.reasoner.penalties) or model.reconstruction is not None  # besides those of probes
        has_hooks = any(parameter._backward_hooks for parameter in self._parameters())  # which would act in each half
        is_plain = model.processor.is_separable and not draws and not has_losses and not has_hooks
        is_large = parallel.num_threads > 1 and len(batch.feedback.features.lengths) >= MIN_HALVED
        return self._is_on("cpu") and is_plain and is_large and not torch.is_autocast_enabled("cpu")

    def losses(self, batch: Batch, num_steps: int | None = None, parameters: dict[str, Tensor] | None = None) -> Losses:
        """The losses of probes and of hints that are reconstructed, and the penalties, by name; their weighted sum.

        Args:
            batch: Trajectories to predict.
            num_steps: How many steps to run all graphs for; each for as many as it needs if None.
            parameters: By name, what the model is to have in place of its own.
        """
        penalties, reconstruction = self.reasoner.penalties, self.reasoner.model.reconstruction
        given = (batch.algorithm, batch.feedback.features)
        options = {"num_steps": num_steps, "with_penalties": bool(penalties), "with_hints": self._scores_hints}
        options["with_reconstruction"] = reconstruction is not None
        predictions: Predictions = (
            self.reasoner.model(*given, **options)
            if parameters is None
            else functional_call(self.reasoner.model, parameters, given, options)
        )
        by_probe = losses(self._spec(batch), predictions, batch.feedback, batch.ended)
        weighted = [weight * predictions.penalties[name] for name, weight in penalties.items()]
        by_name = {f"loss/{name}": value for name, value in by_probe.items()}
        by_name |= {f"penalty/{name}": predictions.penalties[name] for name in penalties}
        if reconstruction is not None and predictions.reconstructed is not None:
            again = reconstruction_losses(self._spec(batch), predictions, batch.feedback, predictions.reconstructed)
            weighted += [reconstruction.weight * value for value in again.values()]
            by_name |= {f"reconstruction/{name}": value for name, value in again.items()}
        return by_name, torch.stack([*by_probe.values(), *weighted]).sum()

    def losses_and_gradients(self, batch: Batch, num_steps: int) -> LossesAndGradients:
        """The losses and gradients of a batch whose graphs are all run for `num_steps`, to be recorded.

        The gradients are those of tensors in the parameters' memory: a parameter itself ties what is recorded to the
        stream on which any other of its gradients is to be accumulated.
        """
        named = self.reasoner.model.named_parameters()
        parameters = {name: x.detach().requires_grad_() for name, x in named if x.requires_grad}
        with gathered_gradients():
            by_name, loss = self.losses(batch, num_steps, parameters)
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        return {name: value.detach() for name, value in by_name.items()}, loss.detach(), gradients

    def losses_and_gradients_in_halves(self, batch: Batch) -> LossesAndGradients:
        """The losses and gradients of a batch, as the sums of those of two halves of about equal work.

        Of the graphs in the order of their lengths each half has every other, so that both take about as many steps. A
        loss is a mean over scored entries, of which the halves may have different numbers: each counts by its own.
        """
        longest_first = batch.feedback.features.lengths.argsort(descending=True)
        rows = [longest_first[first::2] for first in range(2)]
        halves = list(map(batch.select, rows))
        spec = self._spec(batch)
        numbers = [num_scored(spec, half.feedback, half.ended) for half in halves]
        totals = {name: (number + numbers[1][name]).clamp(min=1) for name, number in numbers[0].items()}

        def of_half(index: int) -> LossesAndGradients:
            with noise_of_rows(
                rows[index], len(longest_first), batch.seed
            ):  # what the rows would draw in the whole batch
                features = halves[index].feedback.features
                predictions = self.reasoner.model(batch.algorithm, features, with_hints=self._scores_hints)
            by_probe = losses(spec, predictions, halves[index].feedback, halves[index].ended)
            parts = {name: value * (numbers[index][name] / totals[name]) for name, value in by_probe.items()}
            loss = torch.stack(list(parts.values())).sum()
            gradients = torch.autograd.grad(loss, self._parameters(), allow_unused=True)
            return {f"loss/{name}": value.detach() for name, value in parts.items()}, loss.detach(), gradients

        (by_name, loss, first), (others, other_loss, second) = side_by_side(of_half, range(2))
        gradients = (x if y is None else y if x is None else x + y for x, y in zip(first, second, strict=True))
        return {name: value + others[name] for name, value in by_name.items()}, loss + other_loss, tuple(gradients)

    def outputs_and_losses(
        self, batch: Batch, num_steps: int | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The logits of outputs, and the losses of probes."""
        options = {"num_steps": num_steps, "with_hints": self._scores_hints}
        predictions = self.reasoner.model(batch.algorithm, batch.feedback.features, **options)
        return predictions.outputs, losses(self._spec(batch), predictions, batch.feedback)

    @property
    def _scores_hints(self) -> bool:
        """Whether hints have a loss; they are fed back all the same."""
        return self.reasoner.hint_loss == "all"

    def _spec(self, batch: Batch) -> Spec:
        spec: Spec = self.reasoner.specs[batch.algorithm]
        return spec

    def _parameters(self) -> list[Tensor]:
        """All parameters that are trained."""
        return [parameter for parameter in self.reasoner.model.parameters() if parameter.requires_grad]

    def _is_on(self, device: str) -> bool:
        return next(self.reasoner.model.parameters()).device.type == device

    def _differentiable(self, by_name: dict[str, Tensor], loss: Tensor, gradients: Sequence[Tensor | None]) -> Losses:
        """The losses, their sum as a function of those of the trained parameters that have a part in it."""
        used = [
            (x, gradient) for x, gradient in zip(self._parameters(), gradients, strict=True) if gradient is not None
        ]
        parameters, known = zip(*used, strict=True)
        function: Tensor = _KnownGradients.apply(loss, list(known), *parameters)  # type: ignore[no-untyped-call]
        return by_name, function


class _KnownGradients(torch.autograd.Function):
    """A loss whose gradients are known already."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor], *parameters: Tensor) -> Tensor:
        """The loss, as a function of the parameters."""
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients, in memory of their own: the next recording that is run overwrites what is given."""
        return None, None, *torch._foreach_mul(ctx.gradients, gradient)
