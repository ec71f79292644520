"""PyTorch's side of `make bench-train`: the training step of Pagoda's model, as one writes it well in PyTorch on a CPU.

Embeddings are `sparse=True`, updated by `torch.optim.Adagrad`, whose state is one number for every number (Pagoda's is one a row); the towers by the
fused `AdamW`. The batches of all steps are index tensors made before the clock starts, negatives that are positives of the user
are not masked, and the first steps are not counted: each of these favours PyTorch. Prints one JSON object.

    train_torch.py DATA '{"history": true, "hidden": [128], "batch": 4096, "steps": 20, "warmup_steps": 3, "threads": 1}'
"""

import json
import math
import pathlib
import resource
import sys
import time

import numpy
import torch
from torch import nn
from torch.nn import functional

EMBEDDING_DIM = 64
TEMPERATURE = 0.1
ROW_LEARNING_RATE = 0.1
TOWER_LEARNING_RATE = 0.001
WEIGHT_DECAY = 0.01
ROW_DEVIATION = 0.1
SEED = 42


def main() -> int:
    """One run; returns the exit code."""
    data, task = pathlib.Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.manual_seed(SEED)
    torch.set_num_threads(task["threads"])
    torch.set_num_interop_threads(1)
    items_of_users = numpy.load(data / "items_of_users.npy", mmap_mode="r")
    counts = numpy.bincount(items_of_users.reshape(-1))
    batches = make_batches(items_of_users, task)
    log_q = torch.from_numpy(numpy.log((task["batch"] - 1) * counts / counts.sum())).float()
    model = TwoTower(len(items_of_users), len(counts), task["history"], task["hidden"])
    print(json.dumps(train(model, batches, log_q, task["warmup_steps"])))
    return 0


class Tower(nn.Module):
    """MLP(x) + x S, of norm 1: `[batch, input_dim]` to `[batch, EMBEDDING_DIM]`. S begins as the identity on each part of the input."""

    def __init__(self, input_dim: int, hidden: list[int]):
        super().__init__()
        widths = [input_dim, *hidden, EMBEDDING_DIM]
        layers = [nn.Linear(before, after) for before, after in zip(widths, widths[1:])]
        self.perceptron = nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])
        self.skip = nn.Linear(input_dim, EMBEDDING_DIM, bias=False)
        nn.init.zeros_(layers[-1].weight)
        with torch.no_grad():
            self.skip.weight.copy_(torch.eye(EMBEDDING_DIM).repeat(1, input_dim // EMBEDDING_DIM))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.normalize(self.perceptron(x) + self.skip(x), dim=1)


class TwoTower(nn.Module):
    """User: id row, and the mean of the history's rows of the items' table. Item: id row."""

    def __init__(self, users: int, items: int, history: bool, hidden: list[int]):
        super().__init__()
        self.user_rows = nn.Embedding(users, EMBEDDING_DIM, sparse=True)
        self.item_rows = nn.Embedding(items, EMBEDDING_DIM, sparse=True)
        for table in (self.user_rows, self.item_rows):
            nn.init.normal_(table.weight, std=ROW_DEVIATION)
        self.history = history
        self.user_tower = Tower(EMBEDDING_DIM * (2 if history else 1), hidden)
        self.item_tower = Tower(EMBEDDING_DIM, hidden)

    def rows(self) -> list[nn.Parameter]:
        """What is updated sparsely."""
        return [self.user_rows.weight, self.item_rows.weight]

    def weights(self) -> list[nn.Parameter]:
        """What is updated densely."""
        return [*self.user_tower.parameters(), *self.item_tower.parameters()]

    def embed_users(self, users: torch.Tensor, history: torch.Tensor) -> torch.Tensor:
        """`[batch]` and `[batch, HISTORY_LENGTH]` to `[batch, EMBEDDING_DIM]`."""
        parts = [self.user_rows(users)]
        if self.history:
            parts.append(functional.embedding_bag(history, self.item_rows.weight, mode="mean", sparse=True))
        return self.user_tower(torch.cat(parts, dim=1))

    def embed_items(self, items: torch.Tensor) -> torch.Tensor:
        """`[batch]` to `[batch, EMBEDDING_DIM]`."""
        return self.item_tower(self.item_rows(items))


def make_batches(items_of_users: numpy.ndarray, task: dict) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Users `[batch]`, histories `[batch, HISTORY_LENGTH]` and items `[batch]` of every step."""
    users, per_user = items_of_users.shape
    steps, batch = task["steps"] + task["warmup_steps"], task["batch"]
    chosen = numpy.random.default_rng(SEED).integers(0, users * per_user, steps * batch)
    user, place = chosen // per_user, chosen % per_user
    others = (place[:, None] + 1 + numpy.arange(per_user - 1)) % per_user
    history = items_of_users[user[:, None], others] if task["history"] else numpy.zeros((len(user), 0), dtype=numpy.int64)
    tensors = [torch.from_numpy(numpy.ascontiguousarray(array)).split(batch) for array in (user, history, items_of_users[user, place])]
    return list(zip(*tensors))


def loss_of(model: TwoTower, batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor], log_q: torch.Tensor) -> torch.Tensor:
    """In-batch softmax cross-entropy of cosines over a temperature, corrected for how often an item is drawn (Yi et al., RecSys 2019)."""
    users, history, items = batch
    # The temperature on the small factor and the correction within the product: two passes over the scores less.
    scores = torch.addmm(-log_q[items][None], model.embed_users(users, history) / TEMPERATURE, model.embed_items(items).T)
    return functional.cross_entropy(scores, torch.arange(len(users)))


def train(model: TwoTower, batches: list, log_q: torch.Tensor, warmup_steps: int) -> dict:
    """All steps; the figures are of those after the warm-up."""
    rows = torch.optim.Adagrad(model.rows(), lr=ROW_LEARNING_RATE)
    weights = torch.optim.AdamW(model.weights(), lr=TOWER_LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    losses = []
    for step, batch in enumerate(batches):
        if step == warmup_steps:
            wall, cpu = time.perf_counter(), time.process_time()
        rows.zero_grad()
        weights.zero_grad()
        loss = loss_of(model, batch, log_q)
        loss.backward()
        rows.step()
        weights.step()
        losses.append(loss.item())
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    steps = len(batches) - warmup_steps
    last = losses[-math.ceil(len(losses) / 10) :]
    return {
        "seconds": wall,
        "cpu_seconds": cpu,
        "steps": steps,
        "examples": steps * len(batches[0][0]),
        "loss_first": losses[0],
        "loss_last": sum(last) / len(last),
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    sys.exit(main())
