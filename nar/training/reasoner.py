"""Training and evaluation with Lightning.

Source: Ibarz et al., "A Generalist Neural Algorithmic Learner", LoG 2022; ``clrs/_src/baselines.py`` and
``clrs/examples/run.py`` of dm-clrs 2.0.3.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.func import functional_call
from torch.optim import Adam

from nar.batch import Batch, Key
from nar.errors import UserError
from nar.limits import check_learning_rate
from nar.model.decoders import noise_of
from nar.model.losses import losses, num_scored
from nar.model.metrics import counts, definite, scores
from nar.model.unroll import DecayTo, EncodeProcessDecode, HintFeedback, HintMode, Predictions
from nar.noise import Noise
from nar.ops import parallel
from nar.ops.affine import gathered_gradients
from nar.ops.parallel import side_by_side
from nar.processor import Processor
from nar.specs import Spec, Stage, Type, at_stage
from nar.training.cuda_graphs import Recorder, WithGradients
from nar.training.saving import KnowsItself, matched_by_name
from nar.training.schedules import with_scheduler

LEAST_HALVED = 8
"""How many graphs a batch has at least of which two threads compute the halves."""


class Reasoner(KnowsItself, LightningModule):
    """An :class:`~nar.model.unroll.EncodeProcessDecode` model that learns to execute algorithms.

    Logs the loss and, where scored, the score of every probe by name, and ``val/score``, the mean over the algorithms,
    by which the best weights are chosen: errors of outputs that are scalars count negatively in it.

    Args:
        specs: The spec of each algorithm by name; on the command line, those of the data.
        processor: The graph network; a short name such as ``TripletGMPNN``, or the import path of a subclass of
            :class:`nar.processor.Processor`.
        learning_rate: Of Adam.
        hint_mode: Whether hints are fed back and predicted, only predicted, or not used.
        hint_teacher_forcing: Probability, per graph and step, that training feeds the true hint.
        hint_feedback: Whether predicted hints are fed back as probabilities or as definite values.
        use_lstm: Whether node states pass through an LSTM after the processor.
        num_processor_steps: How often the processor is applied between two hints.
        dropout: Probability that an entry of the node states is dropped in training.
        latent_decay: What is left, in [0, 1], of the node states between one step and the next, before the processor;
            the decoders are given what they were.
        latent_decay_to: What they decay to: zero, or the mean over each node's own entries.
        latent_noise: What becomes of node states after the processor: one of :mod:`nar.noise`, or the import path of a
            subclass of :class:`nar.noise.Noise`; None for nothing.
        penalties: Weights of those penalties of the processor, by name, that are added to the loss.
        lr_scheduler: What changes the learning rate after every step: the ``class_path`` of a scheduler such as
            :class:`nar.training.schedules.WarmupCosine`, and its ``init_args``; None for nothing.
    """

    kind = "dense"

    def __init__(
        self,
        specs: Mapping[str, Spec],
        processor: Processor,
        learning_rate: float = 1e-3,
        hint_mode: HintMode = "encoded_decoded",
        hint_teacher_forcing: float = 0.0,
        hint_feedback: HintFeedback = "soft",
        use_lstm: bool = False,
        num_processor_steps: int = 1,
        dropout: float = 0.0,
        latent_decay: float = 1.0,
        latent_decay_to: DecayTo = "zero",
        latent_noise: Noise | None = None,
        penalties: Mapping[str, float] | None = None,
        lr_scheduler: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        check_learning_rate(learning_rate)
        self.penalties = dict(penalties or {})
        for name, weight in self.penalties.items():
            if name not in processor.penalty_names:
                known = " or ".join(map(repr, processor.penalty_names)) or "none"
                raise ValueError(f"expected a penalty of {type(processor).__name__}, {known}, given {name!r}")
            if not 0 <= weight < math.inf:
                raise ValueError(f"expected a weight of 0 or more for the penalty {name!r}, given {weight}")
        self.specs = specs
        self.learning_rate = learning_rate
        self.lr_scheduler = lr_scheduler
        self.model = EncodeProcessDecode(
            specs,
            processor,
            hint_mode=hint_mode,
            hint_teacher_forcing=hint_teacher_forcing,
            hint_feedback=hint_feedback,
            use_lstm=use_lstm,
            num_processor_steps=num_processor_steps,
            dropout=dropout,
            latent_decay=latent_decay,
            latent_decay_to=latent_decay_to,
            latent_noise=latent_noise,
        )
        self.recorded_training = Recorder(self._losses_and_gradients)
        self.recorded_validation = Recorder(self._outputs_and_losses)
        self.unseen: Unseen | None = None
        """The losses of the last step, if nobody has looked at them."""
        self.tally = Tally()
        self.scores: dict[Key, dict[str, float]] = {}
        """The scores of the last validation or test, by output and under ``"score"`` their mean."""

    def setup(self, stage: str) -> None:
        """Let DDP expect parameters without gradient: those of other algorithms, or of edge states nobody decodes."""
        if isinstance(self.trainer.strategy, DDPStrategy):
            self.trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)

    def configure_optimizers(self) -> Any:
        """Adam, and what changes its learning rate."""
        adam = matched_by_name(Adam(self.named_parameters(), lr=self.learning_rate))
        return with_scheduler(adam, self.lr_scheduler)

    def forward(self, batch: Batch, *, with_hints: bool = True) -> Predictions:
        """Logits of outputs, and of hints if asked for."""
        predictions: Predictions = self.model(batch.algorithm, batch.feedback.features, with_hints=with_hints)
        return predictions

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The sum of all output and hint losses, and of the penalties by their weights."""
        torch.manual_seed(batch.seed)  # noise depends on the batch alone, so a resumed run draws the same
        if self.is_recorded(batch):
            by_name, loss, gradients = self.recorded_training(batch)
            loss = self._with_gradients(loss, gradients)
        elif self.is_halved(batch):
            by_name, loss, gradients = self._losses_and_gradients_of_halves(batch)
            loss = self._with_gradients(loss, gradients)
        else:
            by_name, loss = self._losses(batch)
        self._see_that_losses_are_finite(batch.algorithm, by_name, loss)
        named = {f"train/{batch.algorithm}/{name}": value.detach() for name, value in by_name.items()}
        self.log_dict(named, batch_size=len(batch.feedback.features.lengths))
        self.log(f"train/{batch.algorithm}/loss", loss.detach(), batch_size=1)
        self.log("loss", loss.detach(), prog_bar=True, logger=False, batch_size=1)
        return loss

    def is_recorded(self, batch: Batch) -> bool:
        """Whether a batch is run as a CUDA graph: on a GPU, if its trajectories are whole.

        Windows of trajectories are of too many shapes. Gradients in float16 have to be scaled before they are known.
        Penalties may draw what they look at on the CPU.
        """
        in_float16 = torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda") == torch.float16
        return self.device.type == "cuda" and batch.ended is None and not in_float16 and not self.penalties

    def is_halved(self, batch: Batch) -> bool:
        """Whether two threads compute the halves of a batch: on a CPU, if graphs stay apart and steps draw nothing.

        Outside of the operations that use all cores one core would wait for the other.
        """
        model = self.model
        hints = at_stage(self.specs[batch.algorithm], Stage.HINT)
        draws = model.hint_teacher_forcing > 0 or model.dropout > 0 or model.latent_noise is not None
        draws = draws or any(probe.type is Type.PERMUTATION_POINTER for probe in hints.values())
        has_hooks = any(parameter._backward_hooks for parameter in self._trained())  # which would act in each half
        is_plain = model.processor.is_separable and not draws and not self.penalties and not has_hooks
        is_large = parallel.num_threads > 1 and len(batch.feedback.features.lengths) >= LEAST_HALVED
        return self.device.type == "cpu" and is_plain and is_large and not torch.is_autocast_enabled("cpu")

    def _with_gradients(self, loss: Tensor, gradients: Sequence[Tensor | None]) -> Tensor:
        """The loss, as a function of those of the trained parameters that have a part in it."""
        used = [(x, grad_x) for x, grad_x in zip(self._trained(), gradients, strict=True) if grad_x is not None]
        parameters, grad_parameters = zip(*used, strict=True)
        with_gradients: Tensor = WithGradients.apply(  # type: ignore[no-untyped-call]
            loss, list(grad_parameters), *parameters
        )
        return with_gradients

    def _losses_and_gradients_of_halves(
        self, batch: Batch
    ) -> tuple[dict[str, Tensor], Tensor, tuple[Tensor | None, ...]]:
        """The losses of a batch, their sum and its gradients, as the sums of those of two halves of equal lengths."""
        longest_first = batch.feedback.features.lengths.argsort(descending=True)
        rows = [longest_first[first::2] for first in range(2)]
        halves = list(map(batch.select, rows))
        spec = self.specs[batch.algorithm]
        numbers = [num_scored(spec, half.feedback, half.ended) for half in halves]
        totals = {name: (number + numbers[1][name]).clamp(min=1) for name, number in numbers[0].items()}

        def of_half(index: int) -> tuple[dict[str, Tensor], Tensor, tuple[Tensor | None, ...]]:
            with noise_of(rows[index], len(longest_first), batch.seed):
                predictions = self.model(batch.algorithm, halves[index].feedback.features)
            by_probe = losses(spec, predictions, halves[index].feedback, halves[index].ended)
            parts = {name: value * (numbers[index][name] / totals[name]) for name, value in by_probe.items()}
            loss = torch.stack(list(parts.values())).sum()
            gradients = torch.autograd.grad(loss, self._trained(), allow_unused=True)
            return {f"loss/{name}": value.detach() for name, value in parts.items()}, loss.detach(), gradients

        (by_name, loss, grad_first), (others, other_loss, grad_second) = side_by_side(of_half, range(2))
        gradients = (
            x if y is None else y if x is None else x + y for x, y in zip(grad_first, grad_second, strict=True)
        )
        return {name: value + others[name] for name, value in by_name.items()}, loss + other_loss, tuple(gradients)

    def _trained(self) -> list[Tensor]:
        """All parameters but those that are kept as they are."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def _losses(
        self, batch: Batch, num_steps: int | None = None, parameters: dict[str, Tensor] | None = None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The losses of all probes and the penalties by name, and their weighted sum.

        Args:
            batch: Of what.
            num_steps: As the model's.
            parameters: By name, what the model is to have in place of its own.
        """
        given = (batch.algorithm, batch.feedback.features)
        options = {"num_steps": num_steps, "with_penalties": bool(self.penalties)}
        predictions: Predictions = (
            self.model(*given, **options)
            if parameters is None
            else functional_call(self.model, parameters, given, options)
        )
        by_probe = losses(self.specs[batch.algorithm], predictions, batch.feedback, batch.ended)
        weighted = [weight * predictions.penalties[name] for name, weight in self.penalties.items()]
        by_name = {f"loss/{name}": value for name, value in by_probe.items()}
        by_name |= {f"penalty/{name}": predictions.penalties[name] for name in self.penalties}
        return by_name, torch.stack([*by_probe.values(), *weighted]).sum()

    def _losses_and_gradients(
        self, batch: Batch, num_steps: int
    ) -> tuple[dict[str, Tensor], Tensor, tuple[Tensor | None, ...]]:
        """The losses, and the gradients of their sum, None where a parameter has no part in it.

        They are those of tensors in the parameters' memory: a parameter itself ties what is recorded to the stream on
        which any other of its gradients is to be accumulated.
        """
        named = self.model.named_parameters()
        parameters = {name: x.detach().requires_grad_() for name, x in named if x.requires_grad}
        with gathered_gradients():
            by_name, loss = self._losses(batch, num_steps, parameters)
            gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        return {name: value.detach() for name, value in by_name.items()}, loss.detach(), gradients

    def _outputs_and_losses(
        self, batch: Batch, num_steps: int | None = None
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The logits of outputs, and the loss of every probe."""
        predictions = self.model(batch.algorithm, batch.feedback.features, num_steps=num_steps)
        return predictions.outputs, losses(self.specs[batch.algorithm], predictions, batch.feedback)

    def _see_that_losses_are_finite(self, algorithm: str, by_name: Mapping[str, Tensor], loss: Tensor) -> None:
        """Stop if they are not, in some process: those of a GPU are seen at the next step, so that none waits for it.

        They are seen before anything is evaluated or saved.
        """
        losses = Unseen.of(algorithm, by_name, loss, self.global_step)
        self._see_the_last_losses()
        if losses.arrived is None:
            losses.stop_unless_finite()
        else:
            self.unseen = losses

    def _see_the_last_losses(self) -> None:
        last, self.unseen = self.unseen, None
        if last is not None:
            last.stop_unless_finite()

    def on_validation_start(self) -> None:
        """Evaluate no model whose loss was not finite."""
        self._see_the_last_losses()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save no model whose loss was not finite; and what it is made of."""
        self._see_the_last_losses()
        super().on_save_checkpoint(checkpoint)

    def on_train_end(self) -> None:
        """Let no loss go unseen."""
        self._see_the_last_losses()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the scores and losses of its algorithm."""
        evaluate = self.recorded_validation if self.is_recorded(batch) else self._outputs_and_losses
        outputs, by_probe = evaluate(batch)
        spec = self.specs[batch.algorithm]
        key = batch.key
        self.tally.add_counts(key, counts(spec, outputs, batch.feedback.outputs))
        num_samples = len(batch.feedback.features.lengths)
        self.tally.add_losses(key, by_probe, num_samples)

    def on_validation_epoch_end(self) -> None:
        """Log scores and losses."""
        tally = self._finished_tally()
        for (algorithm, _), by_probe in tally.mean_losses().items():
            by_name = {f"loss/{name}": torch.tensor(value, device=self.device) for name, value in by_probe.items()}
            total = torch.stack(list(by_name.values())).sum()
            Unseen.of(algorithm, by_name, total, self.global_step).stop_unless_finite()
            self.log_dict({f"val/{algorithm}/{name}": value for name, value in by_name.items()})
            self.log(f"val/{algorithm}/loss", total)
        for (algorithm, _), by_output in self.scores.items():
            self.log_dict({f"val/{algorithm}/{name}": value for name, value in by_output.items()})
        merits = [self._merit(algorithm, by_output) for (algorithm, _), by_output in self.scores.items()]
        self.log("val/score", sum(merits) / len(merits), prog_bar=True)

    def _merit(self, algorithm: str, by_output: Mapping[str, float]) -> float:
        """The score of an algorithm, in which errors of scalar outputs count negatively: the best has the most."""
        spec = self.specs[algorithm]
        outputs = {name: value for name, value in by_output.items() if name != "score"}
        return sum(-x if spec[name].type is Type.SCALAR else x for name, x in outputs.items()) / len(outputs)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the scores of its algorithm and size."""
        logits = self(batch, with_hints=False).outputs
        new = counts(self.specs[batch.algorithm], logits, batch.feedback.outputs)
        self.tally.add_counts(batch.key, new)

    def on_test_epoch_end(self) -> None:
        """Log scores."""
        self._finished_tally()
        for (algorithm, num_nodes), by_output in self.scores.items():
            self.log_dict({f"test/{algorithm}/{num_nodes}/{name}": value for name, value in by_output.items()})

    def predict_step(self, batch: Batch, batch_idx: int) -> tuple[Key, dict[str, Tensor]]:
        """The definite outputs of a batch by name, and whose they are."""
        outputs = definite(self.specs[batch.algorithm], self(batch, with_hints=False).outputs)
        return batch.key, outputs

    def _finished_tally(self) -> "Tally":
        """What all processes counted, from which `scores` is set; the next tally starts empty."""
        tally, self.tally = self.tally.over_all_ranks(), Tally()
        self.scores = {key: scores(self.specs[key[0]], by_output) for key, by_output in tally.counts.items()}
        return tally


class Unseen(NamedTuple):
    """The losses of a step on their way to the CPU.

    Attributes:
        algorithm: Whose they are.
        step: After which they were computed.
        names: Of the probes and penalties.
        values: Whether the loss is finite in all processes, and the values of those, [1 + len(names)].
        arrived: When `values` are there, if they came from a GPU.
    """

    algorithm: str
    step: int
    names: list[str]
    values: Tensor
    arrived: torch.cuda.Event | None

    @classmethod
    def of(cls, algorithm: str, by_name: Mapping[str, Tensor], loss: Tensor, step: int) -> "Unseen":
        """Send them on their way."""
        finite = loss.detach().isfinite().float()
        if is_distributed():
            torch.distributed.all_reduce(finite, torch.distributed.ReduceOp.MIN)
        values = torch.stack([finite, *(value.detach() for value in by_name.values())]).to("cpu", non_blocking=True)
        arrived = None
        if loss.is_cuda:
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record()
        return cls(algorithm, step, [name.partition("/")[2] for name in by_name], values, arrived)

    def stop_unless_finite(self) -> None:
        """Raise a :class:`UserError` that names the probes if the loss is not finite in some process."""
        if self.arrived is not None:
            self.arrived.synchronize()
        finite, *values = self.values.tolist()
        if finite:
            return
        named = zip(self.names, values, strict=True)
        bad = [f"{name} is {value}" for name, value in named if not math.isfinite(value)]
        raise UserError(
            f"the loss of {self.algorithm}'s probe {' and of '.join(bad) or '(in another process) is not a number'} "
            f"after step {self.step}; expected a finite number: training stops, checkpoints stay as they were "
            "last saved"
        )


class Tally:
    """Counts of scores and sums of losses over the batches of an evaluation, by algorithm and size.

    Attributes:
        counts: Of each output (see :func:`nar.model.metrics.counts`).
        losses: Sum over trajectories of each probe's loss, and the number of trajectories.
    """

    def __init__(self) -> None:
        self.counts: dict[Key, dict[str, Tensor]] = {}
        self.losses: dict[Key, dict[str, tuple[float, int]]] = defaultdict(dict)

    def add_counts(self, key: Key, new: Mapping[str, Tensor]) -> None:
        """Add the counts of a batch."""
        old = self.counts.setdefault(key, {})
        self.counts[key] = {name: old.get(name, 0) + count.cpu() for name, count in new.items()}

    def add_losses(self, key: Key, by_probe: Mapping[str, Tensor], num_samples: int) -> None:
        """Add the losses of a batch of so many trajectories."""
        for name, value in by_probe.items():
            total, number = self.losses[key].get(name, (0.0, 0))
            self.losses[key][name] = (total + float(value) * num_samples, number + num_samples)

    def mean_losses(self) -> dict[Key, dict[str, float]]:
        """The mean loss of each probe."""
        return {
            key: {name: total / number for name, (total, number) in by_probe.items()}
            for key, by_probe in self.losses.items()
        }

    def over_all_ranks(self) -> "Tally":
        """The sum over all processes, the same in each."""
        if not is_distributed():
            return self
        tallies: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(tallies, self)
        total = Tally()
        for tally in tallies:
            for key, by_output in tally.counts.items():
                total.add_counts(key, by_output)
            for key, by_probe in tally.losses.items():
                for name, (value, number) in by_probe.items():
                    old, old_number = total.losses[key].get(name, (0.0, 0))
                    total.losses[key][name] = (old + value, old_number + number)
        return total


def is_distributed() -> bool:
    """Whether this is one of several processes that train together."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()
