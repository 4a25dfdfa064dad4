"""Let a language model of the Hugging Face Hub read the states of a reasoner that comes with the library (TransNAR).

python transnar_hub.py --language_model EleutherAI/pythia-160m --steps 200

The folder of the hybrid then has its weights and the tokenizer: nar.hybrid.TransNAR.from_pretrained("hybrid") reads it.
"""

from jsonargparse import auto_cli
from lightning.pytorch import Trainer, seed_everything

from nar.datasets.text.datamodule import CLRSText
from nar.datasets.text.stream import grouped, text_samples
from nar.hybrid import LanguageReasoner
from nar.hybrid.answers import generate_answers


def main(language_model: str = "EleutherAI/pythia-160m", steps: int = 200, folder: str = "hybrid") -> None:
    """Train the cross-attention and the language model on texts about BFS; print an answer, and save the hybrid.

    Args:
        language_model: A name of the Hub, or a folder, that has the tokenizer too.
        steps: Of training; each is of 8 texts.
        folder: To save to.
    """
    seed_everything(0, verbose=False)
    data = CLRSText(["bfs"], train_sizes=[4, 5, 6], tokenizer=language_model, batch_size=8)
    module = LanguageReasoner(data.tokenizer, data.algorithms, language_model, reasoner="bfs", learning_rate=1e-4)
    Trainer(max_steps=steps, limit_val_batches=0, gradient_clip_val=1.0, enable_checkpointing=False).fit(module, data)
    texts = text_samples("bfs", num_nodes=6, num_samples=1, seed=7)
    prompts = [text.prompt for text in texts]
    answers = generate_answers(module.model, data.tokenizer, prompts, grouped(texts), max_new_tokens=64)
    for text, answer in zip(texts, answers, strict=True):
        print(f"{text.prompt}{answer.strip()}\ntruth: {text.answer.strip()}\n{text.scores(answer)}")
    module.model.save_pretrained(folder)
    data.tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    auto_cli(main)
