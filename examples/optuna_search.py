"""Search for hyperparameters with Optuna (pip install optuna): every trial is a campaign of `nar sweep` of one run.

python optuna_search.py --trials 20 --max_steps 1000

Trials are scored on the validation split; the test split is looked at in the end alone, with the best model.
"""

import csv
from pathlib import Path

import optuna
from jsonargparse import auto_cli

from nar.cli import main as nar
from nar.sweep.campaign import Campaign, Variant


def flags_of(trial: optuna.Trial) -> list[str]:
    """The flags of `nar fit` that a trial tries."""
    processor = trial.suggest_categorical("processor", ["MPNN", "PGN", "TripletGMPNN"])
    learning_rate = trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
    return ["--model.processor", processor, "--model.learning_rate", str(learning_rate)]


def best_score(folder: Path) -> float:
    """The best score of a run's validations, as its logs have them."""
    with next(folder.glob("logs/version_*/metrics.csv")).open(encoding="utf-8", newline="") as file:
        return max(float(row["val/score"]) for row in csv.DictReader(file) if row["val/score"])


def main(algorithm: str = "dijkstra", trials: int = 10, max_steps: int = 1000, out: Path = Path("runs/optuna")) -> None:
    """Train so many models for so many steps, and test the best."""
    folders: dict[int, Path] = {}

    def objective(trial: optuna.Trial) -> float:
        variant = Variant("run", (*flags_of(trial), "--trainer.max_steps", str(max_steps)), max_steps)
        campaign = Campaign(out / f"trial{trial.number}", [variant], {algorithm: algorithm}, sizes=())
        (result,) = campaign.train()
        if result.error is not None:
            raise RuntimeError(result.error)
        folders[trial.number] = campaign.folder(result.run)
        return best_score(folders[trial.number])

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=trials)
    print(f"best: {study.best_params}, {study.best_value:.4f} in validation")
    nar(["test", "--ckpt_path", str(folders[study.best_trial.number] / "best.ckpt")])


if __name__ == "__main__":
    auto_cli(main)
