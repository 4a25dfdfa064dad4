"""Splits made ahead, by several processes."""

import pickle
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from nar.datasets.clrs30.known import KnownAlgorithm
from nar.datasets.engine.algorithm import Algorithm
from nar.datasets.splits.cache import Cache
from nar.datasets.splits.compilation import compile_ahead, progress_bar
from nar.datasets.splits.splits import Source, Split, end_with_parent
from nar.errors import UserError

_SECONDS_BETWEEN_LINES = 10
"""The seconds between lines about progress in a log, where no bar can be shown."""


def generate_splits(splits: Sequence[Split], cache: Cache, *, num_processes: int) -> None:
    """Generate the splits that are not in the cache yet, showing a progress bar.

    Args:
        splits: What to have in the cache.
        cache: The cache that is to have them.
        num_processes: How many processes draw trajectories; 0 for this one.

    Raises:
        CacheError: If the folder cannot be written or the disk is full.
    """
    missing = [split for split in splits if split.can_be_cached and not split.is_in(cache)]
    if not missing:
        return
    compile_ahead((split.algorithm, split.num_nodes) for split in missing if is_compiled(split.algorithm, split.source))
    with progress_bar() as progress:
        task = progress.add_task("generating splits", total=len(missing))

        last = time.monotonic()

        def show(split: Split) -> None:
            nonlocal last
            kind = "test" if split.is_test else "validation"
            text = f"generated {kind} split of {split.name}, n = {split.num_nodes}"
            progress.update(task, description=text)
            progress.advance(task)
            if progress.disable and (progress.finished or time.monotonic() - last > _SECONDS_BETWEEN_LINES):
                last = time.monotonic()
                print(f"{text}: {progress.tasks[task].completed:g} of {len(missing)}", flush=True)

        if num_processes == 0:
            for split in missing:
                split.store(cache)
                show(split)
            return
        for split in missing:
            _check_sendable(split)
        with ProcessPoolExecutor(min(num_processes, len(missing)), initializer=end_with_parent) as pool:
            futures = {pool.submit(_store, split, cache.folder): split for split in missing}
            try:
                for future in as_completed(futures):
                    future.result()
                    show(futures[future])
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def is_compiled(algorithm: Algorithm, source: Source) -> bool:
    """Whether it is this library that draws trajectories of `algorithm`."""
    return source == "nar" or not isinstance(algorithm, KnownAlgorithm)


def _check_sendable(split: Split) -> None:
    """Raise a :class:`UserError` if another process could not draw it."""
    try:
        pickle.dumps(split)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise UserError(
            f"{split.name} cannot be sent to other processes ({error}): define it at the top of a module, without "
            "attributes that cannot be pickled, or set num_workers to 0"
        ) from error


def _store(split: Split, folder: Path) -> None:
    split.store(Cache(folder))
