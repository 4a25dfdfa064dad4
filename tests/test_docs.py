"""What the README and the pages of the documentation show is run, on small models."""

import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import networkx
import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "docs" / name for name in re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text())]
SHOWN = "\n".join(page.read_text() for page in (ROOT / "README.md", *PAGES))
BLOCKS = re.findall(r"```python\n(.*?)```", SHOWN, re.DOTALL)
MODULES = {match[1]: block for block in BLOCKS if (match := re.match(r"# (\w+)\.py\n", block))}
PYTHON = [block for block in BLOCKS if block not in MODULES.values()]
YAML = re.findall(r"```yaml\n(.*?)```", SHOWN, re.DOTALL)
LINES = [line for block in re.findall(r"```sh\n(.*?)```", SHOWN, re.DOTALL) for line in block.splitlines()]
COMMANDS = [shlex.split(line, comments=True) for line in dict.fromkeys(LINES)]  # one page repeats what another says

SALSA = {
    "fit": [
        *("--data.train_sizes", "[4,5]", "--data.num_val", "2", "--trainer.accelerator", "cpu"),
        *("--trainer.max_steps", "2", "--trainer.val_check_interval", "2", "--trainer.enable_progress_bar", "false"),
        *("--trainer.log_every_n_steps", "1", "--trainer.enable_model_summary", "false"),
    ],
    "test": ["--data.test_sizes", "[4]", "--data.num_test", "2"],
}


TINY = '{"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}'
TEXT = {
    "fit": [
        *("--model.language_model", TINY, "--data.train_sizes", "[4]", "--data.num_val", "1"),
        *("--data.num_workers", "0", "--data.batch_size", "2", "--trainer.accelerator", "cpu"),
        *("--trainer.max_steps", "2", "--trainer.val_check_interval", "2", "--trainer.enable_progress_bar", "false"),
        *("--trainer.log_every_n_steps", "1", "--trainer.enable_model_summary", "false"),
    ],
    "test": ["--data.test_sizes", "[4]", "--data.num_test", "2"],
}


@pytest.fixture
def in_checkout(run: Callable[..., None], small: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that looks like a checkout in which the demo has been run, with the files that the pages show."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    for name, source in MODULES.items():
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.delitem(sys.modules, name, raising=False)
    run("fit", *small, "--trainer.default_root_dir", "runs/quickstart")
    networkx.write_graphml(networkx.les_miserables_graph(), "graph.graphml")
    monkeypatch.setenv("HOME", str(tmp_path))  # where the cache is


@pytest.mark.slow
@pytest.mark.parametrize("code", PYTHON, ids=range(len(PYTHON)))
@pytest.mark.usefixtures("in_checkout")
def test_python_examples_print_what_their_comments_say(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    exec(compile(code, "an example", "exec"), {})
    printed = capsys.readouterr().out
    assert printed
    for shape in re.findall(r"# .*?(\[[\d, ]+\])", code):
        assert shape in printed


@pytest.mark.slow
@pytest.mark.usefixtures("in_checkout")
def test_commands_run_in_the_order_in_which_they_stand(run: Callable[..., None], small: list[str]) -> None:
    root = small.index("--trainer.default_root_dir")
    anywhere = small[:root] + small[root + 2 :]
    for program, *args in COMMANDS:
        if program == "nar":
            extra = {"fit": anywhere, "test": ["--data.test_sizes", "[4]"]}.get(args[0], [])
            extra = SALSA[args[0]] if any("salsa" in arg for arg in args) else extra
            if args[0] == "sweep":
                with pytest.raises(SystemExit, match="0"):  # of no minutes there is the table of what is there
                    run(*args, "--minutes", "0")
                continue
            is_of_text = any("transnar" in arg or "transformer" in arg for arg in args)
            extra = TEXT.get(args[0], []) if is_of_text else extra
            run(*args, *(["--model.processor.hidden_dim", "4"] if "--from-haiku" in args else extra))
    assert Path("runs/dijkstra/ood.png").exists()
    assert Path("runs/ConnectedComponents/ood.csv").exists()
    assert Path("runs/salsa/dijkstra/ood.png").exists()
    assert Path("runs/clrs30/table.md").exists()
    assert Path("evaluation/comparison.md").exists()
    assert Path("answer.json").exists()


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_every_page_is_in_the_navigation_and_every_link_of_the_readme_leads_somewhere() -> None:
    assert {*PAGES} == {*(ROOT / "docs").rglob("*.md")}
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / "README.md").read_text()):
        assert target.startswith("https://") or (ROOT / target).exists(), target


@pytest.mark.parametrize("text", YAML, ids=range(len(YAML)))
@pytest.mark.usefixtures("in_checkout")
def test_configurations_are_trained(text: str, run: Callable[..., None], small: list[str]) -> None:
    Path("config.yaml").write_text(text)
    run("fit", "--config", "config.yaml", *small)
    assert Path("run/best.ckpt").exists()


@pytest.mark.parametrize("target", [args[0] for program, *args in COMMANDS if program == "make"])
def test_make_has_the_targets(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_the_project_names_every_argument_that_the_pages_name(
    run: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    of_nar = re.sub(r"`python [^`]*`|pip install.*|git .*", "", SHOWN)  # scripts have arguments of their own
    named = set(re.findall(r"--[a-z_.-]+[a-z]", of_nar))
    of_text = [[command, "--model.language_model", "pythia", "--help"] for command in ("fit", "test")]
    commands = (
        ["fit", "--help"],
        ["convert", "--help"],
        ["latents", "--help"],
        ["view", "--help"],
        ["ask", "--help"],
        ["sweep", "--help"],
        ["evaluate", "--help"],
        ["compare", "--help"],
        ["run", "--help"],
        ["fit", "--model", "SparseReasoner", "--data", "SALSA", "--help"],
        *of_text,
    )
    classes = {"processor": "nar.processors.PGN", "reconstruction": "nar.model.Reconstruction"}
    of_classes = [["fit", f"--model.{name}.help", path] for name, path in classes.items()]
    for help_for in (*commands, *of_classes):
        with pytest.raises(SystemExit, match="0"):
            run(*help_for)
    known = set(re.findall(r"--[a-z_.-]+[a-z]", capsys.readouterr().out)) | {"--trainer.default_root_dir"}
    assert named <= known | {"--model.processor.hidden_dim"}
