"""MLPs for five folds and four settings: here all together, and as a loop of trainings in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np

from .contest import Check
from .material import Material

GRID: list[dict[str, Any]] = [
    {"learning_rate": rate, "dropout": dropout} for rate in (1e-3, 3e-4) for dropout in (0.5, 0.2)
]
_CLOSE = 0.02  # in accuracy: two trainings of other seeds differ by as much
# As MLPHead: hidden units, rows held out, epochs at most and without a better loss, rows a step.
_HIDDEN, _HELD_OUT, _EPOCHS, _PATIENCE, _BATCH = 128, 0.2, 100, 15, 32


def here(material: Material) -> np.ndarray:
    """Mean accuracy of each setting over the folds."""
    from ...heads.registry import get_head
    from ...heads.sweep import Job

    jobs = [Job(train, test) for train, test in material.folds]
    found = get_head("mlp").sweep(
        material.X,
        material.y,
        jobs,
        GRID,
        {},
        0,
        n_classes=material.n_classes,
        scaling="standard",
    )
    right = [
        (scores.argmax(axis=2) == material.y[job.test]).mean(axis=1)
        for job, scores in zip(jobs, found, strict=True)
    ]
    return np.mean(right, axis=0)


def usual(material: Material) -> np.ndarray:
    """The same from a loop: no DataLoader, tensors indexed by a permutation, PyTorch's own threads."""
    from ...heads.scaling import fit_scaling

    right = np.zeros(len(GRID))
    for train, test in material.folds:
        scaling = fit_scaling("standard", material.X[train])
        rows, new = scaling.transform(material.X[train]), scaling.transform(material.X[test])
        for i, setting in enumerate(GRID):
            answers = _train(rows, material.y[train], new, material.n_classes, **setting)
            right[i] += (answers == material.y[test]).mean() / len(material.folds)
    return right


def check(material: Material, ours: np.ndarray, usual: np.ndarray) -> Check:
    """The best settings score alike; the trainings draw other random numbers."""
    return Check(
        bool(abs(ours.max() - usual.max()) <= _CLOSE),
        f"best mean accuracy {ours.max():.4f} and {usual.max():.4f}",
    )


def _train(
    X: np.ndarray,
    y: np.ndarray,
    X_new: np.ndarray,
    n_classes: int,
    *,
    learning_rate: float,
    dropout: float,
) -> np.ndarray:
    import torch
    from sklearn.model_selection import train_test_split
    from torch import nn

    torch.manual_seed(0)
    fitted, watched = train_test_split(
        np.arange(len(y)), test_size=_HELD_OUT, stratify=y, random_state=0
    )
    inputs, targets = torch.from_numpy(X), torch.from_numpy(y)
    rows, judged = torch.from_numpy(fitted), torch.from_numpy(watched)
    model = nn.Sequential(
        nn.Linear(X.shape[1], _HIDDEN),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(_HIDDEN, n_classes),
    )
    loss_of = nn.CrossEntropyLoss()
    optimiser = torch.optim.Adam(model.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=0.2, patience=5, min_lr=1e-5
    )
    best, best_loss, waited = {}, np.inf, 0
    for _ in range(_EPOCHS):
        model.train()
        for batch in rows[torch.randperm(len(rows))].split(_BATCH):
            optimiser.zero_grad()
            loss_of(model(inputs[batch]), targets[batch]).backward()
            optimiser.step()
        model.eval()
        with torch.no_grad():
            loss = float(loss_of(model(inputs[judged]), targets[judged]))
        schedule.step(loss)
        if loss < best_loss * (1 - 1e-4):
            best = {name: value.clone() for name, value in model.state_dict().items()}
            best_loss, waited = loss, 0
        else:
            waited += 1
            if waited >= _PATIENCE:
                break
    model.load_state_dict(best)
    with torch.no_grad():
        return np.asarray(model(torch.from_numpy(X_new)).argmax(dim=1))
