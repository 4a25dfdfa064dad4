"""What checkpoints hold of a model besides its weights: what it is made of, and how it was trained."""

import os
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from nar.configuration import change
from nar.errors import UserError
from nar.specs import Location, Probe, Spec, Stage, Type

Kind = Literal["dense", "sparse", "text"]
CONFIG = "nar_config"
RUN = "nar_run"


def hyper_parameters(config: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a model as Lightning's ``load_from_checkpoint`` looks for them.

    Args:
        config: Of :attr:`nar.training.base.BaseReasoner.config`.
    """
    return {
        **config["model"],
        "specs": {  # in which Lightning's parser reads choices by their Python names
            algorithm: {name: [*(choice.upper() for choice in probe[:3]), probe[3]] for name, probe in spec.items()}
            for algorithm, spec in config.get("specs", {}).items()
        },
        "_instantiator": "lightning.pytorch.cli.instantiate_module",
    }


def restore_changes(module: Any, config: Mapping[str, Any]) -> None:
    """Change a model that was made of a configuration to what the saved one was.

    Raises:
        ValueError: If it has no place for something.
    """
    change(module, config.get("changed", {}))
    entries, dtypes = module.state_dict(keep_vars=True), config.get("dtypes", {})
    if isinstance(dtypes, str) and _is_floating(dtypes):
        module.to(getattr(torch, dtypes))
        dtypes = {}
    for name, dtype in dtypes.items():
        if name not in entries or not _is_floating(dtype):
            raise ValueError(f"there is no {name} to be of {dtype}")
        entries[name].data = entries[name].data.to(getattr(torch, dtype))
    for name in config.get("frozen", ()):
        if name not in entries:
            raise ValueError(f"there is no {name} to keep as it is")
        entries[name].requires_grad_(False)


def dtypes_of(state: Mapping[str, Tensor]) -> str | dict[str, str]:
    """The dtypes by name of those entries that are not in float32; the one of all if they are equal."""
    dtypes = {name: str(x.dtype).removeprefix("torch.") for name, x in state.items() if x.is_floating_point()}
    others = {name: dtype for name, dtype in dtypes.items() if dtype != "float32"}
    kinds = set(dtypes.values())
    return kinds.pop() if others and len(kinds) == 1 else others


def plain_specs(specs: Mapping[str, Spec]) -> dict[str, dict[str, list[Any]]]:
    """Specs as lists of texts and numbers."""
    return {
        algorithm: {name: [*map(str, probe[:3]), probe.num_classes] for name, probe in spec.items()}
        for algorithm, spec in specs.items()
    }


def specs_of(given: Any) -> dict[str, dict[str, Probe]]:
    """The specs of which :func:`plain_specs` made lists.

    Raises:
        ValueError: If they are of another form.
    """
    specs: dict[str, dict[str, Probe]] = {}
    if not isinstance(given, Mapping) or not given:
        raise ValueError(f"expected the probes of each algorithm by name, given {given!r:.80}")
    for algorithm, spec in given.items():
        if not isinstance(spec, Mapping):
            raise ValueError(f"expected the probes of {algorithm} by name, given {spec!r:.80}")
        specs[algorithm] = {}
        for name, probe in spec.items():
            try:
                stage, location, kind, number = probe
                specs[algorithm][name] = Probe(Stage(stage), Location(location), Type(kind), number)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"expected a stage, a location, a type and a number as {algorithm}'s {name}, given {probe!r:.80}"
                ) from error
    return specs


def run_settings(trainer: Any) -> dict[str, Any]:
    """The settings of a trainer that have a part in what a step does, and the seed, as plain values."""
    seed = os.environ.get("PL_GLOBAL_SEED")
    clipping = trainer.gradient_clip_algorithm
    return {
        "seed_everything": None if seed is None else int(seed),
        "precision": str(trainer.precision),
        "accumulate_grad_batches": trainer.accumulate_grad_batches,
        "gradient_clip_val": trainer.gradient_clip_val,
        "gradient_clip_algorithm": None if clipping is None else str(getattr(clipping, "value", clipping)),
        "overfit_batches": trainer.overfit_batches,
        "world_size": trainer.world_size,
    }


def matched_by_name(optimizer: Optimizer) -> Optimizer:
    """The optimiser of named parameters, which gives each its own part of a state that is loaded, in any order."""
    optimizer.register_load_state_dict_pre_hook(_in_own_order)
    return optimizer


def _in_own_order(optimizer: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state that is loaded, with the parameters in the order of the optimiser that loads it.

    Raises:
        UserError: If it is not of these parameters.
    """
    groups = []
    for own, saved in zip(optimizer.param_groups, state["param_groups"], strict=True):
        names = own["param_names"]
        saved_names = saved.get("param_names", names)  # it was saved without: in this order, as far as can be told
        if set(names) != set(saved_names) or len(saved["params"]) != len(names):
            raise UserError(f"expected a state of the optimiser for {_listed(names)}, given for {_listed(saved_names)}")
        index = dict(zip(saved_names, saved["params"], strict=True))
        for name, parameter in zip(names, own["params"], strict=True):
            _check_state(name, parameter, state["state"].get(index[name], {}))
        groups.append({**saved, "params": [index[name] for name in names], "param_names": names})
    return {**state, "param_groups": groups}


def _check_state(name: str, parameter: Tensor, moments: Mapping[str, Any]) -> None:
    for kind, value in moments.items():
        if isinstance(value, Tensor) and value.dim() > 0 and value.shape != parameter.shape:
            raise UserError(
                f"expected {kind} of {name} in the optimiser's state to be {list(parameter.shape)}, "
                f"given {list(value.shape)}"
            )


def _listed(names: Iterable[str]) -> str:
    return f"{len(list(names))} parameters ({', '.join(list(names)[:2])}, …)"


def _is_floating(dtype: str) -> bool:
    kind = getattr(torch, dtype, None)
    return isinstance(kind, torch.dtype) and kind.is_floating_point
