"""The tasks for lm-evaluation-harness: in the harness where it is installed, and else by what their files say."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml
from hybrids import language_model

from nar.datasets.text import clrs_text_dataset, scores, write_texts
from nar.datasets.text.chat import INSTRUCTION
from nar.datasets.text.tokenizer import text_tokenizer

FOLDER = Path(__file__).parents[2] / "scripts" / "lm_eval"
ROWS = clrs_text_dataset({"bfs": [4], "insertion_sort": [4]}, 4, seed=1)


class Loader(yaml.SafeLoader):
    """Reads functions as the harness does: by the file beside and their name."""


def function_of(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    assert isinstance(node, yaml.ScalarNode)
    module, name = loader.construct_scalar(node).split(".")
    spec = importlib.util.spec_from_file_location(module, FOLDER / f"{module}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return getattr(made, name)


Loader.add_constructor("!function", function_of)


def task(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.load((FOLDER / f"{name}.yaml").read_text(), Loader)
    return content


def test_a_task_asks_questions_and_scores_answers_as_this_library_does() -> None:
    content, row = task("clrs_text"), ROWS[0]
    assert {content["doc_to_text"], content["doc_to_target"]} <= row.keys()
    assert content["target_delimiter"] == ""  # questions end with a line break
    assert row["answer"].endswith(*content["generation_kwargs"]["until"])
    names = [metric["metric"] for metric in content["metric_list"]]
    for answer in (row["answer"], row["answer"].rstrip(), "[0 0 0 0]", "[0 0]", "no"):
        scored = content["process_results"](row, [answer])
        assert list(scored) == names
        assert tuple(scored.values()) == scores(answer, row["answer"])


def test_models_that_take_instructions_are_told_what_to_do() -> None:
    content = task("clrs_text_chat")
    assert task(Path(content["include"]).stem)["task"] == "clrs_text"
    assert content["doc_to_text"](ROWS[0]) == f"{INSTRUCTION}\n\n{ROWS[0]['question']}"


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The harness, in a folder with texts; what it makes of a model and a task."""
    lm_eval = pytest.importorskip("lm_eval")
    tasks = pytest.importorskip("lm_eval.tasks")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    write_texts("texts.jsonl", ROWS)
    manager = tasks.TaskManager(include_path=str(FOLDER), include_defaults=False)

    def evaluate(model: Any, name: str, **settings: Any) -> Any:
        given = {"tasks": [name], "task_manager": manager, "log_samples": True, "bootstrap_iters": 0}
        return lm_eval.simple_evaluate(model, **given, **settings)

    return evaluate


@pytest.mark.filterwarnings("default")  # of the harness's libraries
@pytest.mark.parametrize("name", ["clrs_text", "clrs_text_chat"])
def test_in_the_harness_answers_have_these_scores(harness: Any, name: str) -> None:
    model = pytest.importorskip("lm_eval.api.model")
    answers = [ROWS[0]["answer"], "[0 0 0 0]", "[0]", "no"]
    asked = []

    class Model(model.LM):  # type: ignore[misc, name-defined]
        def generate_until(self, requests: list[Any], **kwargs: Any) -> list[str]:
            asked.extend(request.args[0] for request in requests)
            return answers

        loglikelihood = loglikelihood_rolling = generate_until

    results = harness(Model(), name)["results"][name]
    expected = [scores(answer, row["answer"]) for answer, row in zip(answers, ROWS, strict=True)]
    for place, metric in enumerate(("parse", "shape", "clrs", "exact")):
        assert results[f"{metric},none"] == pytest.approx(sum(one[place] for one in expected) / 4)
    above = "" if name == "clrs_text" else f"{INSTRUCTION}\n\n"
    assert asked == [above + row["question"] for row in ROWS]


@pytest.mark.filterwarnings("default")
def test_a_small_model_of_a_folder_is_scored_in_the_harness(harness: Any, tmp_path: Path) -> None:
    tokenizer = text_tokenizer()
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    model = language_model("gpt_neox", vocab_size=len(tokenizer), max_position_embeddings=256, **ends)
    model.save_pretrained(tmp_path / "tiny")
    tokenizer.save_pretrained(tmp_path / "tiny")
    arguments = {"pretrained": str(tmp_path / "tiny"), "device": "cpu", "dtype": "float32"}
    results = harness("hf", "clrs_text", model_args=arguments, gen_kwargs="max_gen_toks=8")
    for sample in results["samples"]["clrs_text"]:
        given = scores(sample["resps"][0][0], sample["doc"]["answer"])
        assert (sample["parse"], sample["exact"]) == (given.parse, given.exact)
