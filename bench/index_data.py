"""Vectors like a trained model's: items in clusters of clusters, some far larger than others, and users who lie elsewhere than items.

    index_data.py FOLDER ROWS DIM

Writes items.f32, users.f32 (to measure with) and tuning.f32 (other users, to tune with), little-endian, row after row, each of length 1, by a
fixed seed.
"""

import pathlib
import sys

import numpy

SEED = 20_260_101
GROUPS, CLUSTERS_PER_GROUP = 60, 60
# Sizes of clusters fall as rank to this power.
SKEW = 0.6
# The noise around a group, around a cluster and around a user's taste, beside a centre of length 1.
CLUSTER_NOISE, ITEM_NOISE, USER_NOISE = 0.9, 0.75, 0.5
USERS, TUNING_USERS = 2000, 400
BLOCK = 100_000


def main() -> int:
    """Writes the files."""
    folder, rows, dim = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    rng = numpy.random.default_rng(SEED)
    groups = unit(rng.standard_normal((GROUPS, dim)))
    clusters = unit(numpy.repeat(groups, CLUSTERS_PER_GROUP, axis=0) + noise(rng, GROUPS * CLUSTERS_PER_GROUP, dim, CLUSTER_NOISE))
    sizes = (1 + rng.permutation(len(clusters))) ** -SKEW
    folder.mkdir(parents=True)
    with open(folder / "items.f32", "wb") as out:
        for first in range(0, rows, BLOCK):
            chosen = rng.choice(len(clusters), min(BLOCK, rows - first), p=sizes / sizes.sum())
            unit(clusters[chosen] + noise(rng, len(chosen), dim, ITEM_NOISE)).tofile(out)
    # All users share something that no item has: the two towers are not one.
    shared = unit(rng.standard_normal((1, dim)))
    for name, count in (("users.f32", USERS), ("tuning.f32", TUNING_USERS)):
        liked = rng.choice(len(clusters), (count, 3), p=sizes / sizes.sum())
        taste = (clusters[liked] * rng.dirichlet((1.0, 1.0, 1.0), count)[:, :, None]).sum(axis=1)
        unit(unit(taste) + noise(rng, count, dim, USER_NOISE) + 0.3 * shared).tofile(folder / name)
    return 0


def noise(rng: numpy.random.Generator, count: int, dim: int, length: float) -> numpy.ndarray:
    """Vectors of about this length in any direction."""
    return rng.standard_normal((count, dim)) * (length / dim**0.5)


def unit(rows: numpy.ndarray) -> numpy.ndarray:
    """The rows at length 1."""
    return (rows / numpy.linalg.norm(rows, axis=1, keepdims=True)).astype("<f4")


if __name__ == "__main__":
    sys.exit(main())
