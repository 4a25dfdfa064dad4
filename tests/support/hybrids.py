"""Small language models, reasoners and graphs, for tests of hybrids."""

from typing import Any

import torch
from torch import Tensor

from nar.batch import Features, to_tensors
from nar.datasets import sample
from nar.datasets.clrs30.recipe import apply_recipe, recipe_spec
from nar.hybrid import TransNAR, make_language_model
from nar.training.checkpoint import make_reasoner
from nar.training.reasoner import Reasoner

FAMILIES = ("llama", "gemma", "qwen2", "gpt_neox", "gpt2")
OTHER_FAMILIES: dict[str, dict[str, Any]] = {  # with settings that they need besides, and None for what they lack
    **{key: {} for key in ("gemma2", "gemma3_text", "qwen3", "mistral", "olmo2", "phi", "stablelm", "starcoder2")},
    **{key: {} for key in ("bloom", "mpt")},  # no positions, but distances
    "cohere": {},
    "falcon": {"head_dim": None},
    **{key: {"rotary_dim": 4} for key in ("gptj", "codegen")},
    "hunyuan_v1_dense": {},  # angles that depend on the length of the text
    "gpt_bigcode": {},
    "gpt_neo": {"num_hidden_layers": None, "num_layers": 2, "attention_types": [[["global", "local"], 1]]},
    **{key: {} for key in ("ctrl", "openai-gpt", "opt", "xglm")},
    "lfm2": {},  # without attention in its first layers
}
DECODER = {"d_model": 16, "decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 32}
RIGHT_FAMILIES: dict[str, dict[str, Any]] = {"bart": DECODER, "recurrent_gemma": {"num_hidden_layers": 3}}
"""Those that count padding on the left as tokens."""
SETTINGS = {**{key: {} for key in FAMILIES}, **OTHER_FAMILIES, **RIGHT_FAMILIES}
ALGORITHMS = ("bfs", "insertion_sort", "dijkstra")
VOCABULARY = 32
CONTEXT = 64
PAD = 0


def language_model(family: str = "llama", **settings: Any) -> Any:
    """A tiny one with random weights, in evaluation mode."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    heads = {"num_key_value_heads": 1, "head_dim": 8}
    rest = {"vocab_size": VOCABULARY, "max_position_embeddings": CONTEXT}
    tokens = {"pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": None}
    own = {name: x for name, x in {**heads, **SETTINGS.get(family, {})}.items() if x is not None}
    sizes = {name: x for name, x in sizes.items() if SETTINGS.get(family, {}).get(name, x) is not None}
    model = make_language_model({"model_type": family, **sizes, **rest, **tokens, **own, **settings})
    with torch.no_grad():  # or all that they generate is one token
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def reasoner(processor: str = "TripletGMPNN", **settings: Any) -> Reasoner:
    """A small one of three algorithms, made as by `load_reasoner`."""
    torch.manual_seed(1)
    specs = {
        name: {probe: [*map(str, what[:3]), what.num_classes] for probe, what in recipe_spec(name).items()}
        for name in ALGORITHMS
    }
    of_processor = {"class_path": f"nar.processors.{processor}", "init_args": {"hidden_dim": 8}}
    return make_reasoner({"model": {"processor": of_processor, **settings}, "specs": specs})


def graph(algorithm: str, num_nodes: int, seed: int = 0) -> tuple[str, Features[Tensor]]:
    """One graph of an algorithm."""
    feedback = apply_recipe(algorithm, sample(algorithm, num_nodes=num_nodes, num_samples=1, seed=seed))
    return algorithm, to_tensors(feedback, recipe_spec(algorithm)).features


def opened(model: TransNAR) -> TransNAR:
    """The model with its gates open."""
    for attention in model.cross_attention:
        for gate in attention.parameters(recurse=False):
            torch.nn.init.constant_(gate, 1.0)
    return model


def hybrid(family: str = "llama", **settings: Any) -> TransNAR:
    """A hybrid with open gates, in evaluation mode."""
    model = language_model(family)
    torch.manual_seed(2)
    return opened(TransNAR(model, reasoner(), **settings))
