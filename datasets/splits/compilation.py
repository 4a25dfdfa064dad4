"""When numba compiles: before trajectories are drawn, once, and with a bar that shows it."""

from collections.abc import Iterable

from numba.core.event import Event, Listener, install_listener
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from nar.datasets.clrs30.known import KnownAlgorithm
from nar.datasets.clrs30.samplers import algorithm_of, sample
from nar.datasets.engine.algorithm import Algorithm


def compile_ahead(draws: Iterable[tuple[str | Algorithm, int]]) -> None:
    """Draw one trajectory of each algorithm, so that numba has compiled, or read from its cache, all that this needs.

    A process that is forked from this one then need not do so. A bar is shown from when something is compiled that was
    not in numba's cache.

    Args:
        draws: Algorithms and sizes that will be drawn. Those of CLRS-30 are tried at the smallest size that they
            have, a user's own at the smallest of these.
    """
    # What is drawn at one size compiles what all sizes need: the types of arrays do not depend on it.
    smallest: dict[str, tuple[Algorithm, int]] = {}
    for given, num_nodes in draws:
        algorithm = algorithm_of(given)
        least = algorithm.min_num_nodes if isinstance(algorithm, KnownAlgorithm) else num_nodes
        _, known = smallest.get(algorithm.name, (algorithm, least))
        smallest[algorithm.name] = algorithm, min(least, known)
    progress = progress_bar()
    task = progress.add_task("", total=len(smallest))
    with install_listener("numba:compile", _Starter(progress)):
        try:
            for algorithm, num_nodes in smallest.values():
                progress.update(task, description=f"compiling {algorithm.name} …")
                sample(algorithm, num_nodes=num_nodes, num_samples=1, seed=0, hints="none")
                progress.advance(task)
            progress.update(task, description="compiled")
        finally:
            if progress.live.is_started:
                progress.stop()


def progress_bar() -> Progress:
    """A bar with a text, how many of how many are done, and for how long it has been going on.

    It is disabled where the output is no terminal: what is done is then printed in lines.
    """
    text, console = TextColumn("{task.description}"), Console()
    columns = SpinnerColumn(), text, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, console=console, disable=not console.is_terminal)


class _Starter(Listener):
    """Shows a bar as soon as numba compiles something, which it does not tell of what its cache has."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.told = ""

    def on_start(self, event: Event) -> None:
        """Show the bar, if it is not shown yet."""
        self.progress.start()
        text = self.progress.tasks[0].description
        if self.progress.disable and text != self.told:
            print(text, flush=True)
            self.told = text

    def on_end(self, event: Event) -> None:
        """Do nothing: other functions may follow."""
