"""The page, opened in a real browser: what is clicked and typed there, and what is then seen."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from browser import MISSING, Browser, browser
from PIL import Image

from nar.datasets.clrs30.recipe import recipe_spec
from nar.datasets.clrs30.samplers import run_on
from nar.processors import PGN
from nar.training.reasoner import Reasoner
from nar.viewer import Page, show

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser for all tests of this file."""
    try:
        with browser(tmp_path_factory.mktemp("profile")) as tab:
            yield tab
    except FileNotFoundError:
        pytest.fail(MISSING)


@pytest.fixture(scope="module")
def reasoner() -> Reasoner:
    """A model that has learnt nothing, and so is wrong nearly everywhere."""
    torch.manual_seed(0)
    algorithms = (
        "bfs",
        "bridges",
        "dijkstra",
        "floyd_warshall",
        "insertion_sort",
        "lcs_length",
        "mst_kruskal",
        "graham_scan",
    )
    return Reasoner({name: recipe_spec(name) for name in algorithms}, PGN(hidden_dim=8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pages are kept."""
    return tmp_path_factory.mktemp("pages")


@pytest.fixture
def bfs(reasoner: Reasoner, folder: Path, opened: Browser) -> tuple[Page, Browser]:
    """A page of breadth-first search along a path of 5 nodes, freshly opened, and the browser."""
    path = torch.diag(torch.ones(4), 1)
    page = show(reasoner, "bfs", run_on("bfs", [((path + path.T).numpy(), 0)], num_nodes=5))
    opened.requests.clear()
    opened.complaints.clear()
    return page, opened.open(page.save(folder / "bfs.html"))


def at(tab: Browser) -> int:
    """The step at which the slider is."""
    return int(tab.evaluate("document.getElementById('step').value"))


def text(tab: Browser, selector: str) -> str:
    """What is written in an element."""
    return str(tab.evaluate(f"document.querySelector('{selector}').textContent"))


def number(tab: Browser, selector: str) -> int:
    """How many such elements there are."""
    return int(tab.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length"))


def test_a_page_asks_for_nothing_and_complains_about_nothing(bfs: tuple[Page, Browser], folder: Path) -> None:
    _, tab = bfs
    for key in ("ArrowRight", "ArrowDown", "End", "ArrowUp", "n", "Home", "+", "0"):
        tab.press(key)
    assert tab.complaints == []
    assert {url for url in tab.requests if url != "about:blank"} == {(folder / "bfs.html").resolve().as_uri()}
    assert number(tab, "script[src], link, img, iframe") == 0


def test_keys_move_along_the_steps(bfs: tuple[Page, Browser]) -> None:
    page, tab = bfs
    steps = page.trajectory.num_steps
    assert steps == 4
    assert text(tab, "#step-name") == "start, 4 steps follow"
    tab.press("ArrowLeft")
    assert at(tab) == 0
    tab.press("ArrowRight")
    tab.press("ArrowRight")
    assert at(tab) == 2
    assert text(tab, "#step-name") == "step 2 of 4"
    tab.press("ArrowLeft")
    assert at(tab) == 1
    tab.press("End")
    assert at(tab) == steps
    tab.press("ArrowRight")
    assert at(tab) == steps
    tab.press("Home")
    assert at(tab) == 0


def test_arrows_move_by_one_step_where_the_slider_has_the_focus(bfs: tuple[Page, Browser]) -> None:
    _, tab = bfs
    tab.click("#step", part=0.5)
    middle = at(tab)
    assert middle == 2
    assert text(tab, "#step-name") == f"step {middle} of 4"
    tab.press("ArrowRight")
    assert at(tab) == middle + 1


def test_space_plays_to_the_end(bfs: tuple[Page, Browser]) -> None:
    _, tab = bfs
    tab.press("End")
    tab.press("ArrowLeft")
    tab.press(" ")
    tab.wait("document.getElementById('step').value === '4'")
    tab.wait("document.getElementById('play').textContent === '▶'")


def test_both_panels_show_the_values_of_the_step(bfs: tuple[Page, Browser]) -> None:
    page, tab = bfs
    (reach,) = (track for track in page.trajectory.tracks if track.name == "reach_h")
    (pi,) = (track for track in page.trajectory.tracks if track.name == "pi_h")
    for step in range(1, 5):
        tab.press("ArrowRight")
        differences = [a != b for a, b in zip(pi.true[step], pi.predicted[step], strict=True)]
        assert number(tab, "#true .body.yes") == sum(reach.true[step])
        assert number(tab, "#predicted .body.yes") == sum(reach.predicted[step])
        assert number(tab, "#true path.arrow, #true circle.arrow") == 5
        assert number(tab, "#predicted .arrow.wrong") == sum(differences)
        assert number(tab, "#true .wrong, #true .mark") == 0
        assert text(tab, "#predicted").count("✗") == sum(differences)
    assert any(differences)


def test_a_probe_is_picked_and_explained(bfs: tuple[Page, Browser]) -> None:
    page, tab = bfs
    for track in page.trajectory.tracks:
        tab.click(f".probe[data-probe={track.name}] .kind")
        assert track.meaning.sentence in text(tab, "#meaning")
        assert text(tab, ".probe.focus span").startswith(track.name)
    tab.press("ArrowDown")  # from the last to the first
    assert text(tab, "#meaning code") == page.trajectory.tracks[0].name
    tab.press("ArrowUp")
    assert text(tab, "#meaning code") == page.trajectory.tracks[-1].name


def test_a_probe_is_drawn_if_it_is_ticked(bfs: tuple[Page, Browser]) -> None:
    _, tab = bfs
    tab.press("End")
    assert number(tab, "#true .body.yes") == 5
    tab.click(".probe[data-probe=reach_h] input")
    assert number(tab, "#true .body.yes") == 0
    assert number(tab, "#predicted .outline") == 0
    tab.click(".probe[data-probe=pi] input")  # in place of the other pointers
    assert tab.evaluate("document.querySelector('.probe[data-probe=pi_h] input').checked") is False


def test_n_goes_to_the_next_difference(bfs: tuple[Page, Browser]) -> None:
    page, tab = bfs
    (pi,) = (track for track in page.trajectory.tracks if track.name == "pi_h")
    wrong = [step for step in range(1, 5) if pi.true[step] != pi.predicted[step]]
    assert wrong
    for step in [*wrong, wrong[0]]:
        tab.press("n")
        assert at(tab) == step


def test_a_node_tells_all_of_its_values(bfs: tuple[Page, Browser]) -> None:
    _, tab = bfs
    tab.press("End")
    tab.hover("#true [data-node='3'] .body")
    assert text(tab, "#details").startswith("3: ")
    assert "pi_h 2" in text(tab, "#details")
    assert "edges to 2, 4" in text(tab, "#details")
    assert number(tab, ".node.near") == 2
    tab.click("#predicted [data-node='1'] .body")
    tab.hover("#true [data-node='3'] .body")
    assert text(tab, "#details").startswith("1 (kept): ")


def test_the_wheel_and_keys_zoom(bfs: tuple[Page, Browser]) -> None:
    _, tab = bfs

    def width() -> float:
        return float(tab.evaluate("document.getElementById('true').viewBox.baseVal.width"))

    whole = width()
    tab.wheel("#true", -100)
    tab.wait(f"document.getElementById('predicted').viewBox.baseVal.width < {whole}")
    assert width() < whole
    tab.press("0")
    assert width() == whole
    tab.press("+")
    tab.press("-")
    assert width() == whole


def test_the_states_of_nodes_are_drawn_after_every_step(bfs: tuple[Page, Browser]) -> None:
    _, tab = bfs
    assert "no states before the first step" in text(tab, "#states-drawing")
    tab.press("ArrowRight")
    assert number(tab, "#states-drawing .state") == 5
    assert number(tab, "#states-drawing .trail") == 0
    tab.press("ArrowRight")
    assert number(tab, "#states-drawing .trail") == 5


def test_pairs_are_drawn_as_a_table(reasoner: Reasoner, folder: Path, opened: Browser) -> None:
    opened.complaints.clear()
    page = show(reasoner, "floyd_warshall", num_nodes=5)
    tab = opened.open(page.save(folder / "floyd_warshall.html"), "step=3&probe=Pi_h")
    (track,) = (track for track in page.trajectory.tracks if track.name == "Pi_h")
    assert number(tab, "#true rect.cell") == number(tab, "#predicted rect.cell") == 25
    wrong = sum(a != b for a, b in zip(track.true[3], track.predicted[3], strict=True))
    assert number(tab, "#predicted rect.cell.wrong") == wrong > 0
    tab.hover("#true rect.cell[data-i='1'][data-j='2']")
    assert text(tab, "#details").startswith("1 → 2: ")
    assert f"Pi_h {track.true[3][7]}" in text(tab, "#details")
    assert tab.complaints == []


def test_pairs_that_are_not_scored_are_not_drawn(reasoner: Reasoner, folder: Path, opened: Browser) -> None:
    page = show(reasoner, "bridges", num_nodes=8, seed=1)
    tab = opened.open(page.save(folder / "bridges.html"), "step=4&probe=is_bridge_h")
    (track,) = (track for track in page.trajectory.tracks if track.name == "is_bridge_h")
    unscored = [i for i, truth in enumerate(track.true[4]) if truth is None]
    assert any(track.predicted[4][i] for i in unscored)
    assert page.trajectory.edges is not None
    assert number(tab, "#predicted line.edge.on, #predicted line.edge.missed") <= len(page.trajectory.edges.pairs)
    tab.click("#as-table")
    assert number(tab, "#predicted rect.cell[fill='#ececea']") == len(unscored)


@pytest.mark.parametrize(
    ("algorithm", "size", "selector", "least"),
    [
        ("dijkstra", 64, "#predicted g.node", 64),
        ("graham_scan", 8, "#predicted g.node", 8),
        ("insertion_sort", 8, "#true path.arrow", 7),
        ("lcs_length", 8, "#true rect.cell", 16),
        ("mst_kruskal", 8, "#true line.edge.on", 1),
    ],
)
def test_every_kind_of_algorithm_is_drawn(
    algorithm: str, size: int, selector: str, least: int, reasoner: Reasoner, folder: Path, opened: Browser
) -> None:
    opened.complaints.clear()
    page = show(reasoner, algorithm, num_nodes=size)
    tab = opened.open(page.save(folder / f"{algorithm}.html"))
    tab.press("End")
    assert number(tab, selector) >= least
    for _ in page.trajectory.tracks:
        tab.press("ArrowDown")
    assert tab.complaints == []
    with Image.open(tab.screenshot(folder / f"{algorithm}.png")) as picture:
        assert len(picture.convert("RGB").getcolors(2**24) or []) > 50


def test_names_of_64_nodes_can_be_read(reasoner: Reasoner, folder: Path, opened: Browser) -> None:
    page = show(reasoner, "dijkstra", num_nodes=64)
    tab = opened.open(page.save(folder / "large.html"))
    size, apart = tab.evaluate("""(() => {
        const boxes = [...document.querySelectorAll('#true .node .name')].map((name) => name.getBoundingClientRect());
        const overlap = (a, b) => a.x < b.right && b.x < a.right && a.y < b.bottom && b.y < a.bottom;
        return [boxes[0].height, boxes.every((a, i) => boxes.every((b, j) => i === j || !overlap(a, b)))];
    })()""")
    assert size >= 8
    assert apart


def test_a_notebook_shows_the_page_in_a_frame(reasoner: Reasoner, folder: Path, opened: Browser) -> None:
    opened.complaints.clear()
    page = show(reasoner, "bfs", num_nodes=5)
    notebook = folder / "notebook.html"
    notebook.write_text(f"<html data-ready='yes'><body>{page._repr_html_()}</body></html>", encoding="utf-8")
    tab = opened.open(notebook)
    tab.wait("document.querySelector('iframe').contentDocument?.documentElement?.dataset.ready === 'yes'")
    shown = tab.evaluate("document.querySelector('iframe').contentDocument.querySelectorAll('#true g.node').length")
    assert shown == 5
    assert tab.complaints == []


def test_names_and_texts_are_no_markup(folder: Path, opened: Browser, reasoner: Reasoner) -> None:
    page = show(reasoner, "bfs", num_nodes=4)
    tracks = [track._replace(name=f"<b>{track.name}</b>&amp;") for track in page.trajectory.tracks]
    odd = Page(page.trajectory._replace(algorithm="</script><b>", tracks=tracks))
    tab = opened.open(odd.save(folder / "odd.html"))
    assert text(tab, "#title") == "</script><b>"
    assert text(tab, ".probe.focus span").startswith("<b>")
    assert number(tab, "#probes b, #meaning b, #legend b") == 0
