"""The losses of outputs and hints.

Source: ``clrs/_src/losses.py`` of dm-clrs 2.0.3, those of full samples and of chunks. Hints are compared at exactly the
steps that trajectories have.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from nar.batch import Feedback
from nar.model.reconstruction import Reconstructed
from nar.model.unroll import Predictions
from nar.specs import MASKED, Probe, Spec, Type


def losses(
    spec: Spec, predictions: Predictions, feedback: Feedback[Tensor], ended: Tensor | None = None
) -> dict[str, Tensor]:
    """The loss of every predicted probe by name; dm-clrs trains on their sum.

    Args:
        spec: The algorithm's probes.
        predictions: What the model made of ``feedback.features``.
        feedback: The true hints and outputs.
        ended: Which graphs' outputs to score, [B]; None for all.
    """
    time, graph = predictions.time, predictions.graph
    # A model that is run for more steps than a trajectory has makes predictions of hints that are not there.
    is_there = time < feedback.features.lengths[graph]
    hints = {name: hint[time.clamp(max=len(hint) - 1), graph] for name, hint in feedback.features.hints.items()}
    rows = slice(None) if ended is None else ended.nonzero().squeeze(1)
    logits = predictions.hints | {name: output[rows] for name, output in predictions.outputs.items()}
    truth = hints | {name: output[rows] for name, output in feedback.outputs.items()}
    scored: Mapping[str, Tensor] = dict.fromkeys(hints, is_there)
    return {name: probe_loss(spec[name], logits[name], truth[name], scored.get(name)) for name in logits}


def reconstruction_losses(
    spec: Spec, predictions: Predictions, feedback: Feedback[Tensor], reconstructed: Reconstructed
) -> dict[str, Tensor]:
    """The loss of every hint that a model has decoded from its encoding, by name: the mean over rounds of masks.

    Args:
        spec: The algorithm's probes.
        predictions: What the model made of ``feedback.features``.
        feedback: The true hints.
        reconstructed: Of the predictions.
    """
    time, graph = predictions.time, predictions.graph
    is_there = time < feedback.features.lengths[graph]
    by_name = {}
    for name, logits in reconstructed.logits.items():
        hint = feedback.features.hints[name]
        truth = hint[(time - 1).clamp(max=len(hint) - 1), graph]  # of the hint that the step was given
        rows = is_there.expand(len(logits), -1)
        if name in reconstructed.masked:
            masked = reconstructed.masked[name]
            if spec[name].type is Type.MASK_ONE:  # whose data say where the one is
                masked = masked.gather(-1, truth.long().expand(len(logits), -1)[..., None]).squeeze(-1)
            rows = masked & rows.view(*rows.shape, *[1] * (masked.dim() - 2))
        each = [probe_loss(spec[name], x, truth, scored) for x, scored in zip(logits, rows, strict=True)]
        by_name[name] = torch.stack(each).mean()
    return by_name


def num_scored(spec: Spec, feedback: Feedback[Tensor], ended: Tensor | None = None) -> dict[str, Tensor]:
    """The number of entries that each probe's loss is a mean over, by name; arguments as of :func:`losses`."""
    (_, hints, lengths), outputs = feedback
    numbers = {}
    for name, hint in hints.items():
        time = torch.arange(len(hint), device=hint.device)[:, None]
        is_there = (time > 0) & (time < lengths)
        numbers[name] = _scored(spec[name], hint, is_there).sum()
    for name, output in outputs.items():
        numbers[name] = _scored(spec[name], output, ended).sum()
    return numbers


def _scored(probe: Probe, truth: Tensor, rows: Tensor | None) -> Tensor:
    """Which entries of a probe's data are scored, in their shape: of the first axes only `rows`, or all if None."""
    scored = torch.ones_like(truth, dtype=torch.bool) if probe.type is Type.SCALAR else truth != MASKED
    return scored if rows is None else scored & rows.view(*rows.shape, *[1] * (truth.dim() - rows.dim()))


def probe_loss(probe: Probe, logits: Tensor, truth: Tensor, rows: Tensor | None = None) -> Tensor:
    """The mean loss over all scored entries of a probe; 0 if there are none.

    Squared error for scalars, binary cross entropy for masks, cross entropy for the rest (for a permutation pointer,
    whose logits are those of a doubly stochastic matrix already, without another softmax).

    Args:
        probe: What is predicted.
        logits: In the shape that :class:`nar.specs.Type` says.
        truth: The data of the probe.
        rows: Which of the first axis to score; None for all.
    """
    scored = _scored(probe, truth, rows)
    match probe.type:
        case Type.SCALAR:
            loss = (logits - truth).square()
        case Type.MASK:
            loss = functional.binary_cross_entropy_with_logits(logits, truth.to(logits.dtype), reduction="none")
        case _:
            log_probabilities = logits if probe.type is Type.PERMUTATION_POINTER else logits.log_softmax(dim=-1)
            loss = -log_probabilities.gather(-1, truth.long().clamp(min=0)[..., None]).squeeze(-1)
    return torch.where(scored, loss, 0).sum() / scored.sum().clamp(min=1)
