"""The log that both sides of `make bench-train` learn from: users with 21 distinct items each, items by a Zipf-like popularity.

Twenty-one, because an example is one of a user's items with the twenty others as history, so that every history is full. Every item of the
catalog occurs, since a vocabulary holds only what occurs: the tables are as large as they are said to be. The same log is written as
Pagoda's tables and as one array for PyTorch, whose row u is user u's items.

    train_data.py FOLDER ITEMS USERS HISTORY        HISTORY: 20, or 0 for users known by their ids alone
"""

import os
import pathlib
import shutil
import sys

import numpy
import pyarrow
import pyarrow.compute
import pyarrow.parquet

ITEMS_PER_USER = 21
HISTORY_LENGTH = ITEMS_PER_USER - 1
# Users who have one test item each: Pagoda evaluates at the end of a run, and evaluating is not what is measured.
TEST_USERS = 200
ZIPF_EXPONENT = 0.8
SEED = 7
# A user has a row where the id is a feature: without a history there is nothing else.
SCHEMA = """[user]
id = "user_id"
[[user.feature]]
name = "user_id"
kind = "id"
{history}
[item]
id = "item_id"
[[item.feature]]
name = "item_id"
kind = "id"

[interactions]
split = "given"
"""
HISTORY_FEATURE = f"""[[user.feature]]
name = "history"
kind = "sequence"
max_length = {HISTORY_LENGTH}
"""


def main() -> int:
    """Writes one data set, whole or not at all; returns the exit code."""
    folder, items, users, history = pathlib.Path(sys.argv[1]), *map(int, sys.argv[2:])
    generator = numpy.random.default_rng(SEED)
    items_of_users = draw_items(items, users, generator)
    fault = fault_of(items_of_users, items)
    if fault:
        print(f"error: the generated log is wrong: {fault}", file=sys.stderr)
        return 1
    work = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    (work / "schema.toml").write_text(SCHEMA.format(history=HISTORY_FEATURE if history else ""))
    write_tables(work, items_of_users, items, generator)
    numpy.save(work / "items_of_users.npy", items_of_users)
    shutil.rmtree(folder, ignore_errors=True)
    work.rename(folder)
    return 0


def draw_items(items: int, users: int, generator: numpy.random.Generator) -> numpy.ndarray:
    """`[users, ITEMS_PER_USER]`, i64: every item once, at a place by chance; the other places by popularity, distinct within a user."""
    places = users * ITEMS_PER_USER
    if places < 2 * items:
        raise ValueError(f"{users} users are too few for {items} items: at most half of the places are there for every item to occur")
    flat = popular(items, places, generator)
    reserved = numpy.zeros(places, dtype=bool)
    reserved[generator.choice(places, items, replace=False)] = True
    flat[reserved] = generator.permutation(items)
    matrix, reserved = flat.reshape(users, -1), reserved.reshape(users, -1)
    rows = numpy.arange(users)
    while len(rows):
        again = repeats(matrix[rows]) & ~reserved[rows]
        drawn = matrix[rows]
        drawn[again] = popular(items, int(again.sum()), generator)
        matrix[rows] = drawn
        rows = rows[again.any(axis=1)]
    return matrix


def popular(items: int, count: int, generator: numpy.random.Generator) -> numpy.ndarray:
    """Items drawn in proportion to 1 / (item + 10)^ZIPF_EXPONENT, by inverting the integral of that density."""
    power = 1.0 - ZIPF_EXPONENT
    low, high = 10.0**power, (items + 10.0) ** power
    drawn = (low + (high - low) * generator.random(count)) ** (1.0 / power) - 10.0
    return numpy.clip(drawn.astype(numpy.int64), 0, items - 1)


def repeats(matrix: numpy.ndarray) -> numpy.ndarray:
    """Which entries occur elsewhere in their row too."""
    order = numpy.argsort(matrix, axis=1, kind="stable")
    ordered = numpy.take_along_axis(matrix, order, axis=1)
    same = numpy.zeros(matrix.shape, dtype=bool)
    same[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    same[:, :-1] |= same[:, 1:]
    found = numpy.zeros(matrix.shape, dtype=bool)
    numpy.put_along_axis(found, order, same, axis=1)
    return found


def fault_of(matrix: numpy.ndarray, items: int) -> str | None:
    """What is not as it was promised."""
    if repeats(matrix).any():
        return "a user has an item twice"
    occurring = len(numpy.unique(matrix))
    return None if occurring == items else f"expected {items} items to occur, found {occurring}"


def write_tables(folder: pathlib.Path, matrix: numpy.ndarray, items: int, generator: numpy.random.Generator) -> None:
    """Pagoda's tables: users, items and interactions, the latter in an order by chance."""
    users = len(matrix)
    test_users = numpy.arange(min(TEST_USERS, users))
    test_items = (matrix[test_users, 0] + 1 + generator.integers(0, items - 1, len(test_users))) % items
    order = generator.permutation(matrix.size)
    user = numpy.concatenate([order // ITEMS_PER_USER, test_users])
    item = numpy.concatenate([matrix.reshape(-1)[order], test_items])
    split = numpy.repeat(["train", "test"], [matrix.size, len(test_users)])
    write(folder / "users.parquet", user_id=names("u", numpy.arange(users)))
    write(folder / "items.parquet", item_id=names("i", numpy.arange(items)))
    times = 1_700_000_000 + numpy.arange(len(user))
    write(folder / "interactions.parquet", user_id=names("u", user), item_id=names("i", item), timestamp=times, split=split)


def names(letter: str, numbers: numpy.ndarray) -> pyarrow.Array:
    """Ids as texts, as users have them."""
    return pyarrow.compute.binary_join_element_wise(letter, pyarrow.array(numbers).cast(pyarrow.string()), "")


def write(path: pathlib.Path, **columns: object) -> None:
    """One table."""
    pyarrow.parquet.write_table(pyarrow.table(columns), path, compression="snappy")


if __name__ == "__main__":
    sys.exit(main())
