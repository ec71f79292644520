"""Filters for `make bench-index`, as files of bits, the lowest row in the lowest bit: the same share of rows chosen in different ways."""

import pathlib

from index_sides import Side

# Rows anywhere; rows nearest to a place among the items; rows farthest from where users are.
FILTERS = ["random", "cluster", "far"]


def masks(folder: pathlib.Path, ann: Side, rows: int, shares: list[float]) -> list[tuple[str, float, pathlib.Path]]:
    """Name, share and file of every filter; made where they are not there. All rows are one filter, not three."""
    made = []
    for share in shares:
        for name in FILTERS if share < 1 else FILTERS[:1]:
            path = folder / f"{name}-{share:g}.bits"
            if not path.exists():
                ann.ask("mask", filter=name, count=max(1, round(rows * share)), file=str(path))
            made.append((name, share, path))
    return made
