"""Scores of predicted outputs, pooled over a whole split.

Source: ``clrs/_src/evaluation.py`` of dm-clrs 2.0.3.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from nar.decoders import predicted_value
from nar.specs import MASKED, Spec, Stage, Type, at_stage


def predicted_outputs(spec: Spec, logits: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Definite outputs from their logits, a permutation and its first node being fused into pointers (a chain).

    Args:
        spec: The algorithm's probes.
        logits: By output name.
    """
    outputs = at_stage(spec, Stage.OUTPUT)
    return fuse_permutations(spec, {name: predicted_value(outputs[name], logits[name]) for name in outputs})


def fuse_permutations(spec: Spec, outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`outputs` with pointers [..., N] for every permutation [..., N, N] and its mask of the first node [..., N].

    The first node points at itself, every other one where the permutation says.
    """
    fused = {}
    for name, value in outputs.items():
        if spec[name].type is Type.PERMUTATION_POINTER:
            first = outputs[f"{name}_mask"] > 0.5
            itself = torch.arange(value.shape[-1], device=value.device).expand_as(first)
            fused[name] = torch.where(first, itself, value.argmax(dim=-1))
        elif not _is_mask_of_permutation(spec, name):
            fused[name] = value
    return fused


def _is_mask_of_permutation(spec: Spec, name: str) -> bool:
    owner = spec.get(name.removesuffix("_mask"))
    return name.endswith("_mask") and owner is not None and owner.type is Type.PERMUTATION_POINTER


def counts(spec: Spec, logits: Mapping[str, Tensor], truth: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the score of each output is made of; counts of several batches may be added, int64 or float [3].

    True positives, false positives and false negatives of a mask; the number of right entries, of all, and 0 for
    pointers, categorical and mask_one; the sum of squared errors, the number of entries, and 0 for a scalar.

    Args:
        spec: The algorithm's probes.
        logits: By output name.
        truth: The data of the outputs.
    """
    predicted = predicted_outputs(spec, logits)
    return {
        name: _counts(spec[name].type, predicted[name], true) for name, true in fuse_permutations(spec, truth).items()
    }


def _counts(type_: Type, predicted: Tensor, truth: Tensor) -> Tensor:
    match type_:
        case Type.MASK:
            scored = truth != MASKED
            positive, true = predicted > 0.5, truth > 0.5
            terms = [positive & true, positive & ~true, ~positive & true]
            return torch.stack([(term & scored).sum() for term in terms])
        case Type.SCALAR:
            error = (predicted - truth).double().square().sum()
            return torch.stack([error, error.new_tensor(truth.numel()), error.new_zeros(())])
        case Type.MASK_ONE | Type.CATEGORICAL:
            scored = (truth != MASKED).all(dim=-1)
            right = (predicted.argmax(dim=-1) == truth.argmax(dim=-1)) & scored
        case _:
            scored = torch.ones_like(truth, dtype=torch.bool)
            right = predicted == truth
    return torch.stack([right.sum(), scored.sum(), torch.zeros_like(right.sum())])


def scores(spec: Spec, counts: Mapping[str, Tensor]) -> dict[str, float]:
    """The score of each output, and under ``"score"`` their mean, as dm-clrs reports it.

    F1 of masks, 1 if nothing was to be found and nothing was; accuracy of pointers, categorical and mask_one; mean
    squared error of scalars.

    Args:
        spec: The algorithm's probes.
        counts: From :func:`counts`, added over batches.
    """
    by_output = {}
    for name, (a, b, c) in ((name, count.tolist()) for name, count in counts.items()):
        if spec[name].type is Type.MASK:
            precision = a / (a + b) if a + b else 1.0
            recall = a / (a + c) if a + c else 1.0
            by_output[name] = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        else:
            by_output[name] = a / b if b else float("nan")
    return by_output | {"score": sum(by_output.values()) / len(by_output)}
