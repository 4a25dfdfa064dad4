"""Campaigns, with a command line in place of ``nar`` that takes no time (see ``fake_nar.py``)."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from fake_nar import PAUSE, PROGRAM, install, steps_in_text
from filelock import FileLock

from nar.errors import UserError
from nar.sweep import campaign as sweep
from nar.sweep import run as sweep_run
from nar.sweep.campaign import Campaign, Result, Run, Variant, expected_seconds, steps_of_tests
from nar.sweep.published import published
from nar.sweep.run import Reached, train_and_test


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line in place of ``nar``."""
    install(monkeypatch)


def campaign(
    out: Path,
    algorithms: Sequence[str] = ("bfs",),
    *flags: str,
    variants: Sequence[str] = ("plain",),
    max_steps: int = 20,
    num_seeds: int = 1,
    sizes: Sequence[int] = (16, 64),
) -> Campaign:
    """A campaign of some algorithms; each variant has a flag of its own."""
    all_flags = (*flags, "--trainer.max_steps", str(max_steps))
    made = [Variant(name, (*all_flags, "--variant", name), max_steps) for name in variants]
    return Campaign(out, made, {name: name for name in algorithms}, num_seeds, sizes)


def calls(out: Path, command: str) -> list[str]:
    """The folders of the runs in which a command was called, in this order."""
    lines = (out / "calls.txt").read_text().splitlines() if (out / "calls.txt").exists() else []
    return [line.split()[2] for line in lines if line.split()[1] == command]


@pytest.mark.slow
def test_every_variant_algorithm_and_seed_is_trained_and_tested(fake: None, tmp_path: Path) -> None:
    out = tmp_path / "out"
    all_runs = campaign(out, ["bfs", "kmp_matcher"], variants=["one", "two"], num_seeds=2)
    results = list(all_runs.train())
    assert {r.run for r in results} == {
        Run(v, a, s) for v in ("one", "two") for a in ("bfs", "kmp_matcher") for s in (0, 1)
    }
    assert all(r.error is None and r.reached.is_finished and r.reached.steps == 20 for r in results)
    assert all(list(r.reached.scores) == [16, 64] for r in results)
    by_run = {r.run: r.reached.scores for r in results}
    assert by_run["one", "bfs", 0] == by_run["two", "bfs", 0] != by_run["one", "bfs", 1]
    assert by_run["one", "bfs", 0][16] - by_run["one", "bfs", 0][64] == pytest.approx(0.0048)
    lines = (out / "calls.txt").read_text().splitlines()
    (fit,) = (line for line in lines if " fit two/kmp_matcher/seed1" in line)
    for flags in ("--variant two", "--data.algorithms kmp_matcher", "--seed_everything 1"):
        assert flags in fit


@pytest.mark.slow
def test_the_longest_are_first(fake: None, tmp_path: Path) -> None:
    names = ["bfs", "heapsort", "minimum", "bubble_sort"]
    list(campaign(tmp_path / "out", names, num_seeds=2).train())
    order = ["bubble_sort", "heapsort", "minimum", "bfs"]
    assert calls(tmp_path / "out", "fit") == [f"plain/{name}/seed{seed}" for name in order for seed in (0, 1)]


def test_what_has_been_measured_is_believed_before_what_is_known() -> None:
    runs = [Run("v", name, seed) for name in ("bfs", "bubble_sort", "own") for seed in (0, 1)]
    reached = [Reached() for _ in runs]
    reached[0] = Reached(steps=10, seconds=3100.0)  # of bfs, a hundred times as long as its lengths say
    reached[2] = Reached(steps=100, seconds=121.0 * 100)
    results = [Result(run, one) for run, one in zip(runs, reached, strict=True)]
    seconds = expected_seconds(results, {"v": 100})
    assert seconds[runs[0]] == pytest.approx(90 * 310)
    assert seconds[runs[1]] == pytest.approx(100 * 310)
    assert seconds[runs[2]] == 0
    assert seconds[runs[3]] == pytest.approx(100 * 121)
    assert seconds[runs[4]] == pytest.approx(100 * 16 * 50.5)  # in the middle between 100 and 1 for each length


def test_tests_take_longer_the_more_batches_and_the_longer_trajectories_there_are() -> None:
    lcs, kadane, bubble, own = (
        steps_of_tests(name, [64]) for name in ("lcs_length", "find_maximum_subarray_kadane", "bubble_sort", "Own")
    )
    assert own < bubble < kadane
    assert kadane == pytest.approx(32 * own)
    assert lcs == pytest.approx(own, rel=0.2)
    assert steps_of_tests("Own", [16, 32]) == pytest.approx(steps_of_tests("Own", [16]) * (1 + 2**3))


@pytest.mark.slow
def test_several_train_at_once(fake: None, tmp_path: Path) -> None:
    together = campaign(tmp_path / "out", ["bfs", "dfs"], "--meet", "2")
    assert [r.error for r in together.train(num_jobs=2)] == [None, None]
    alone = campaign(tmp_path / "alone", ["fails"], "--meet", "2")
    assert [r.error for r in alone.train()] == ["nar fit failed: it fails"]


@pytest.mark.slow
def test_a_failed_run_is_named_and_stops_no_other(fake: None, tmp_path: Path) -> None:
    names = ["fails", "is_killed", "fails_in_test", "bfs"]
    errors = {r.run.algorithm: r.error for r in campaign(tmp_path / "out", names).train()}
    assert errors == {
        "fails": "nar fit failed: it fails",
        "is_killed": "nar fit was ended by SIGKILL: out of memory?",
        "fails_in_test": "nar test failed: out of memory",
        "bfs": None,
    }


@pytest.mark.slow
def test_what_failed_is_tried_again_and_what_is_done_is_not(fake: None, tmp_path: Path) -> None:
    names = ["fails", "fails_in_test", "bfs"]
    for _ in range(2):
        list(campaign(tmp_path / "out", names).train())
    assert sorted(calls(tmp_path / "out", "fit")) == sorted(
        f"plain/{name}/seed0" for name in ("bfs", "fails", "fails", "fails_in_test")
    )
    assert sorted(calls(tmp_path / "out", "test")) == [
        f"plain/{name}/seed0" for name in ("bfs", *["fails_in_test"] * 2)
    ]


@pytest.mark.slow
def test_seeds_algorithms_variants_and_sizes_may_be_added(fake: None, tmp_path: Path) -> None:
    out = tmp_path / "out"
    list(campaign(out, sizes=[16]).train())
    larger = campaign(out, ["bfs", "dfs"], variants=["plain", "other"], num_seeds=2, sizes=[16, 64])
    assert len(list(larger.train())) == 8
    assert len(calls(out, "fit")) == len(set(calls(out, "fit"))) == 8
    first, *_ = (line for line in (out / "calls.txt").read_text().splitlines() if "test plain/bfs/seed0" in line)
    *_, last = (line for line in (out / "calls.txt").read_text().splitlines() if "test plain/bfs/seed0" in line)
    assert "[16]" in first
    assert "[64]" in last
    assert list(larger.train()) == []
    assert all(set(r.reached.scores) == {16, 64} for r in larger.results())


def train_until(all_runs: Campaign, step: int, file: Path) -> list[Result]:
    """What a campaign reached that is stopped when some checkpoint is of so many steps."""

    def stop() -> None:
        while not any(steps_in_text(path) >= step for path in all_runs.out.rglob("last.ckpt")):
            time.sleep(0.005)
        file.touch()

    thread = Thread(target=stop)
    thread.start()
    results = list(all_runs.train())
    thread.join()
    return results


@pytest.mark.slow
def test_a_campaign_that_was_stopped_goes_on_where_it_was(fake: None, tmp_path: Path) -> None:
    whole = campaign(tmp_path / "whole", ["bfs", "dfs"], max_steps=100)
    expected = {r.run: r.reached.scores for r in whole.train()}
    parts = campaign(tmp_path / "parts", ["bfs", "dfs"], max_steps=100)
    (tmp_path / "pause").touch()
    stopped = train_until(parts, PAUSE, parts.stop_file)
    (tmp_path / "pause").unlink()
    assert [r.error for r in stopped] == [None, None]
    assert {r.reached.steps for r in stopped} == {0, PAUSE}
    assert not any(r.reached.is_finished or r.reached.scores for r in stopped)
    assert {r.run: r.reached.scores for r in parts.train()} == expected
    assert all(r.reached.started is None and r.reached.seconds > 0.1 for r in parts.results())


@pytest.fixture
def clock(fake: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that a run's steps turn by a second each, and a test that takes long by many."""

    def now() -> float:
        steps = max(map(steps_in_text, tmp_path.rglob("last.ckpt")), default=0)
        has_begun = any((path.parent / "is_testing").exists() for path in tmp_path.rglob("last.ckpt"))
        return steps + 1e6 * has_begun

    monkeypatch.setattr(sweep_run, "now", now)
    monkeypatch.setattr(sweep_run, "_begun_at", lambda folder: 0.0)


@pytest.mark.slow
def test_a_run_is_stopped_in_time_and_tested_as_it_is(
    clock: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_run, "STARTUP", 300.0)
    long = campaign(tmp_path / "out", max_steps=1_000_000)
    (trained,) = long.train(deadline=400)
    assert 20 <= trained.reached.steps < 100_000  # some of the 300 steps are for the tests, and some are taken late
    assert trained.reached.tested == trained.reached.steps
    assert set(trained.reached.scores) == {16, 64}
    assert not trained.reached.is_finished
    (more,) = long.train(deadline=trained.reached.steps + 1000)
    assert more.reached.steps > trained.reached.steps
    assert more.reached.tested == more.reached.steps
    assert more.reached.scores != trained.reached.scores


def test_a_test_that_takes_too_long_is_left_for_another_time(clock: None, tmp_path: Path) -> None:
    (result,) = campaign(tmp_path / "out", ["takes_long_to_test"]).train(deadline=1000)
    assert (result.error, result.reached.is_finished, result.reached.scores) == (None, True, {})


@pytest.mark.parametrize(
    ("startup", "began", "test_steps", "steps"),
    [(40, 0, 0, 961), (40, 0, 100, 861), (40, 15, 100, 861), (40, 30, 100, 841), (0, 0, 0, 1001)],
)
def test_as_much_time_is_left_as_tests_take_to_begin_and_to_end(
    startup: float,
    began: float,
    test_steps: float,
    steps: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    time = {"now": 0}  # a step a second
    monkeypatch.setattr(sweep_run, "STARTUP", startup)
    monkeypatch.setattr(sweep_run, "now", lambda: float(time["now"]))
    monkeypatch.setattr(sweep_run, "_begun_at", lambda folder: float(began))
    monkeypatch.setattr(sweep_run, "steps_of", lambda path: time["now"])

    def run(self: Any, command: str, flags: Sequence[str], is_late: Callable[[], bool], grace: float) -> bool:
        while not is_late():
            time["now"] += 1
        return False

    monkeypatch.setattr(sweep_run.Commands, "run", run)
    reached = train_and_test(tmp_path / "run", [], [], deadline=1000, test_steps=test_steps)
    assert (reached.steps, reached.seconds, reached.is_finished) == (steps, steps, False)


def test_nothing_begins_after_the_time_is_over(fake: None, tmp_path: Path) -> None:
    (result,) = campaign(tmp_path / "out").train(deadline=time.time())
    assert (result.reached, result.error) == (Reached(), None)
    assert calls(tmp_path / "out", "fit") == []


@pytest.mark.slow
def test_runs_end_with_a_campaign_that_is_killed_and_what_they_saved_counts(fake: None, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "v" / "bfs" / "seed0"
    script = f"""
import sys
from pathlib import Path
from nar.sweep import run as sweep_run
sweep_run.PROGRAM = {PROGRAM!r}
sweep_run.steps_of = lambda path: 0
flags = ["--data.algorithms", "bfs", "--seed_everything", "0", "--trainer.max_steps", "1000000"]
sweep_run.train_and_test(Path({str(folder)!r}), flags, [])
"""
    folder.mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-P", "-c", script]) as killed:
        while steps_in_text(folder / "last.ckpt") < 20:
            time.sleep(0.01)
        killed.kill()
    flags = ["--data.algorithms", "bfs", "--seed_everything", "0", "--trainer.max_steps", "30"]
    reached = train_and_test(folder, flags, [16])  # waits for the run to end: it has the lock
    assert reached.steps >= 30
    assert reached.seconds >= 20 * 0.002
    assert reached.is_finished


def test_two_campaigns_do_not_share_a_folder(fake: None, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "campaign.json").write_text(json.dumps({}))
    with FileLock(out / "campaign.lock"), pytest.raises(UserError, match=f"^another nar sweep is at work in {out}$"):
        list(campaign(out).train())


@pytest.mark.slow
def test_two_processes_do_not_train_one_run(fake: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_run, "GRACE", 0.1)
    both = campaign(tmp_path / "out", ["bfs", "dfs"])
    folder = both.folder(Run("plain", "bfs", 0))
    list(campaign(tmp_path / "out", ["minimum"]).train())
    folder.mkdir(parents=True)
    with FileLock(folder / "run.lock"):
        errors = {r.run.algorithm: r.error for r in both.train()}
    assert errors == {"bfs": f"nar fit failed: another process is at work in {folder}", "dfs": None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_steps": 30}, "holds another campaign (plain), with other settings of plain"),
        ({"variants": ["other"]}, "holds another campaign (plain), with other settings of other"),
    ],
)
def test_the_folder_of_another_campaign_is_refused(
    change: dict[str, Any], message: str, fake: None, tmp_path: Path
) -> None:
    list(campaign(tmp_path / "out").train())
    with pytest.raises(UserError) as error:
        list(campaign(tmp_path / "out", **change).train())
    assert message in str(error.value)


def test_the_content_of_a_configuration_counts_and_not_its_name(fake: None, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one.yaml", "two.yaml", "three.yaml")]
    for path, text in zip(paths, ("a: 1", "a: 1", "a: 2"), strict=True):
        path.write_text(text)
    out = tmp_path / "out"
    for path in paths[:2]:
        list(campaign(out, ["bfs"], "--config", str(path)).train())
    with pytest.raises(UserError, match="holds another campaign"):
        list(campaign(out, ["bfs"], "--config", str(paths[2])).train())


def test_a_folder_of_something_else_is_refused(fake: None, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "best.ckpt").touch()
    with pytest.raises(UserError, match=r"holds something else than a campaign: expected another --out$"):
        list(campaign(tmp_path / "out").train())


@pytest.mark.slow
def test_a_damaged_record_is_named_and_stops_no_other(fake: None, tmp_path: Path) -> None:
    twice = campaign(tmp_path / "out", ["bfs", "dfs"])
    list(twice.train())
    path = tmp_path / "out" / "plain" / "bfs" / "seed0" / "run.json"
    for text in ("{", "[]", '{"scores": 3}', '{"scores": {}, "other": 1}', '{"scores": {"x": 1}}'):
        path.write_text(text)
        with pytest.raises(UserError, match=r"run\.json is damaged: remove it"):
            twice.results()
    path.unlink()
    (again,) = twice.train()
    assert (again.run.algorithm, again.reached.is_finished) == ("bfs", True)


def test_a_full_disk_is_an_error_of_the_run(fake: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, os.strerror(28), str(path))

    monkeypatch.setattr(sweep_run, "replace", full)
    (result,) = campaign(tmp_path / "out").train()
    assert "No space left on device" in str(result.error)


@pytest.fixture
def cluster(fake: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A Dask cluster of two workers, processes of their own on the loopback, that have the fake."""
    dask, distributed = pytest.importorskip("dask"), pytest.importorskip("distributed")
    program = PROGRAM

    def patch() -> None:  # as a function in a function it is sent by value
        from nar.sweep import run as sweep_run

        sweep_run.PROGRAM, sweep_run.POLL = program, 0.02
        sweep_run.steps_of = lambda path: int(path.read_text()) if path.exists() else 0

    def start() -> Any:
        return distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)

    # Dask sets these in the environment of the process that starts workers and leaves them there, for later tests too.
    for name, value in dask.config.get("distributed.nanny.pre-spawn-environ").items():
        monkeypatch.setenv(name, str(value))
    try:
        started = start()
    except RuntimeError:  # a machine under load started a worker too late, which ends the cluster
        started = start()
    with started, distributed.Client(started) as client:
        client.run(patch)
        yield started


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # of a start
def test_a_dask_cluster_of_two_workers_trains_two_at_once_and_names_what_fails(cluster: Any, tmp_path: Path) -> None:
    on_cluster = campaign(tmp_path / "out", ["bfs", "dfs", "fails"], "--meet", "2", num_seeds=2)
    results = {r.run: r for r in on_cluster.train(cluster=cluster.scheduler_address)}
    assert len(results) == 6
    here = campaign(tmp_path / "here", ["bfs", "dfs", "fails"], num_seeds=2)
    for result in here.train():
        assert results[result.run].error == result.error
        assert results[result.run].reached.scores == result.reached.scores


def test_a_cluster_that_is_not_there_is_an_error(fake: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "PATIENCE", 0.2)
    with pytest.raises(UserError, match=r"^no Dask scheduler answers at tcp://127\.0\.0\.1:9:"):
        list(campaign(tmp_path / "out").train(cluster="tcp://127.0.0.1:9"))
    with pytest.raises(UserError, match=r"^no Dask scheduler answers at nonsense://x"):
        list(campaign(tmp_path / "out").train(cluster="nonsense://x"))


def test_every_known_algorithm_has_a_length_that_grows() -> None:
    assert all(
        1 < facts.length_16 < facts.length_64 or name == "segments_intersect" for name, facts in published().items()
    )
    assert math.isfinite(sum(steps_of_tests(name, [16, 32, 64]) for name in published()))


def test_a_process_that_is_told_to_end_and_does_not_is_killed(
    fake: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_run, "GRACE", 0.2)
    pid = tmp_path / "pid"
    stubborn = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    stubborn += f"open({str(pid)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n"
    monkeypatch.setattr(sweep_run, "PROGRAM", stubborn)
    stop = tmp_path / "stop"
    thread = Thread(target=lambda: (wait_for(pid), stop.touch()))
    thread.start()
    reached = train_and_test(tmp_path / "run", [], [], stop=stop)
    thread.join()
    assert not reached.is_finished
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), signal.SIGCONT)


def wait_for(path: Path) -> None:
    """Wait until a file has something in it."""
    while not path.exists() or not path.read_text():
        time.sleep(0.01)
