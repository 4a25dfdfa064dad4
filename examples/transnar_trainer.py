"""Hugging Face's Trainer trains a language model that reads the states of a reasoner (TransNAR).

python transnar_trainer.py --steps 500

Needs accelerate (pip install accelerate). The folder then has the hybrid and its tokenizer, for AutoModelForCausalLM.
"""

from jsonargparse import auto_cli
from transformers import Trainer, TrainingArguments, set_seed

from nar import Reasoner
from nar.datasets.text import clrs_text_dataset, graph_of, text_sample
from nar.datasets.text.batches import TextCollator
from nar.datasets.text.tokenizer import load_tokenizer
from nar.hybrid import TransNARModel, make_language_model
from nar.hybrid.answers import generate_answers
from nar.packed import pack_graphs


def main(steps: int = 500, folder: str = "hybrid", hidden_size: int = 128) -> None:
    """Train a small decoder from scratch on texts about BFS, beside a frozen reasoner; print an answer.

    Args:
        steps: Of training; each is of 16 texts.
        folder: To save to.
        hidden_size: The width of the decoder.
    """
    set_seed(0)
    tokenizer = load_tokenizer()
    sizes = {"hidden_size": hidden_size, "intermediate_size": 3 * hidden_size, "num_hidden_layers": 4}
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    settings = {"model_type": "llama", "vocab_size": len(tokenizer), "num_attention_heads": 4, **sizes, **ends}
    model = TransNARModel.from_parts(make_language_model(settings), Reasoner.from_pretrained("bfs"))
    arguments = TrainingArguments(
        folder,
        max_steps=steps,
        per_device_train_batch_size=16,
        learning_rate=1e-3,
        warmup_steps=steps // 10,
        eval_strategy="epoch",
        save_strategy="no",
        remove_unused_columns=False,  # of which the collator makes what the model takes
        report_to="none",
    )
    texts = clrs_text_dataset({"bfs": range(4, 9)}, num_samples=16 * steps + 64)
    data = {"train_dataset": texts[64:], "eval_dataset": texts[:64], "data_collator": TextCollator(tokenizer)}
    trainer = Trainer(model, arguments, processing_class=tokenizer, **data)
    trainer.train()
    print(trainer.evaluate())
    trainer.save_model()
    text = text_sample("bfs:\ns: 0, A: [[0 1 0 0], [1 0 1 0], [0 1 0 1], [0 0 1 0]]\npi:\n")
    graphs = pack_graphs([graph_of(text.prompt)])
    (answer,) = generate_answers(model, tokenizer, [text.prompt], graphs, max_new_tokens=16)
    print(f"{text.prompt}{answer.strip()}\ntruth: {text.answer.strip()}\n{text.scores(answer)}")


if __name__ == "__main__":
    auto_cli(main)
