"""Pages that show what a model predicts, step by step, beside what the algorithm does."""

import gzip
import html
import json
from base64 import b64encode
from collections.abc import Hashable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from nar.batch import Feedback
from nar.datasets.clrs30.recipe import apply_recipe, num_nodes_at
from nar.datasets.clrs30.samplers import CLRS_30, sample
from nar.errors import UserError, meant
from nar.files import replacing_text
from nar.model.unroll import EncodeProcessDecode
from nar.specs import Spec, Stage, at_stage
from nar.viewer.trajectory import Trajectory, Units, trajectory_of

_FRAME_HEIGHT = 860
"""The height in pixels of the frame that holds a page in a notebook."""


class HasModel(Protocol):
    """An object that has an encode-process-decode model and the specs of its algorithms, as a reasoner does.

    Attributes:
        specs: Of each algorithm by name.
        model: The model.
        hint_loss: ``"none"`` if its hints are predicted without a loss: they do not mean what their probes say.
    """

    specs: Mapping[str, Spec]
    model: EncodeProcessDecode
    hint_loss: str


class Page:
    """A page that shows a trajectory: one file of HTML that needs nothing else, neither a server nor a network.

    In a notebook it shows itself.

    Args:
        trajectory: What to show.
    """

    def __init__(self, trajectory: Trajectory) -> None:
        self.trajectory = trajectory

    @property
    def html(self) -> str:
        """The page as text."""
        content = json.dumps(self.trajectory.as_json(), allow_nan=False, separators=(",", ":")).encode()
        packed = b64encode(gzip.compress(content, mtime=0)).decode()
        page = _part("html")
        for mark, part in (("CSS", _part("css")), ("SCRIPT", _part("js")), ("DATA", packed)):
            page = page.replace(f"%{mark}%", part)
        return page.replace("%TITLE%", html.escape(self.trajectory.algorithm))

    def save(self, path: str | Path) -> Path:
        """Write the page into a file and return its path.

        Raises:
            UserError: If it cannot be written.
        """
        with replacing_text(path) as file:
            file.write(self.html)
        return Path(path)

    def _repr_html_(self) -> str:
        """The page in a frame of its own, which notebooks show in place of the object."""
        style = f"width:100%;height:{_FRAME_HEIGHT}px;border:1px solid #ccc"
        return f'<iframe srcdoc="{html.escape(self.html)}" style="{style}"></iframe>'


@cache
def _part(kind: str) -> str:
    """The text of one of the page's parts."""
    return (files("nar.viewer") / f"page.{kind}").read_text(encoding="utf-8")


def show(
    reasoner: HasModel,
    algorithm: str,
    feedback: Feedback[Any] | None = None,
    *,
    graph: int = 0,
    num_nodes: int = 16,
    seed: int = 0,
    num_steps: int | None = None,
    names: Sequence[Hashable] | None = None,
    units: Units = MappingProxyType({}),
) -> Page:
    """A page on which to see, step by step, where a model's predictions part from the algorithm.

    Args:
        reasoner: The model, as of :func:`nar.training.checkpoint.load_reasoner`.
        algorithm: The algorithm's name.
        feedback: What to show it on: trajectories of :func:`nar.datasets.sample`, of
            :func:`nar.datasets.clrs30.samplers.run_on`, or of a batch. If there are none, one is drawn.
        graph: Which of the trajectories to show.
        num_nodes: The published size of the trajectory that is drawn.
        seed: Draws it.
        num_steps: For how many steps to run the model; None for as many as the algorithm takes.
        names: Of the nodes; None for their indices.
        units: By the name of a scalar, the factor by which it is multiplied to be shown, and what is then added.

    Raises:
        UserError: If the model does not know the algorithm, or the trajectories are another's.
    """
    if not isinstance(getattr(reasoner, "model", None), EncodeProcessDecode):
        raise UserError(f"expected a reasoner of dense graphs to show, given a {type(reasoner).__name__}")
    known = reasoner.specs
    if algorithm not in known:
        raise UserError(
            f"expected an algorithm of the model ({', '.join(known)}), given {algorithm}{meant(algorithm, known)}"
        )
    spec = known[algorithm]
    if feedback is None:
        if algorithm not in CLRS_30:
            raise UserError(f"expected trajectories of {algorithm} to show: only those of CLRS-30 are drawn here")
        feedback = sample(algorithm, num_nodes=num_nodes_at(algorithm, num_nodes), num_samples=1, seed=seed)
    feedback = _in_form(spec, algorithm, feedback)
    settings: Any = {"graph": graph, "num_steps": num_steps, "names": names, "units": units}
    return Page(trajectory_of(reasoner.model, spec, algorithm, feedback, **settings))


def _in_form(spec: Spec, algorithm: str, feedback: Feedback[Any]) -> Feedback[Any]:
    """Trajectories in the form that the model was trained on, if they are as they were drawn."""
    is_in_form = at_stage(spec, Stage.OUTPUT).keys() <= feedback.outputs.keys()
    is_in_form &= at_stage(spec, Stage.INPUT).keys() <= feedback.features.inputs.keys()
    return feedback if is_in_form or algorithm not in CLRS_30 else apply_recipe(algorithm, feedback)


def view(reasoner: HasModel, algorithm: str, feedback: Feedback[Any] | None, path: str | Path, **settings: Any) -> Path:
    """Write the page of :func:`show` into a file and return its path; the other arguments are the same."""
    return show(reasoner, algorithm, feedback, **settings).save(path)
