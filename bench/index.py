"""`make bench-index`: what one search costs, rung by rung, at equal recall: Faiss through its PyPI wheel, the crate `ann`, and what lies above.

All sides hold the same vectors and the same index (the very file), are asked in turns within one run, one query at a time on one
thread, and their processor time is compared round by round. Prints tables, writes bench/out/index.json, and says which targets are met.
README.md says more. This file measures the lower rungs, index_service.py the upper ones, which are processes and calls.

    index.py --release target/release --python VENV/bin/python [--quick] [--rounds N] [--rungs lower upper] [--pgvector]
"""

import argparse
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import zlib

import index_figures as figures
import index_masks
import index_pgvector
import index_service
import index_sides
import index_upper_figures as upper_figures
from index_sides import Side, SideFault
from install_torch import cache

BENCH = pathlib.Path(__file__).resolve().parent
STARTED = time.monotonic()
DIM = 64
KINDS = ["ivf_flat", "ivf_sq8", "ivf_pq_fs_refine"]
# Target recalls by k, as an index is tuned.
GOALS = {100: 0.98, 500: 0.95}


def main() -> int:
    """Runs the ladder; returns the exit code."""
    args = parse()
    try:
        report = run(args)
    except (SideFault, subprocess.CalledProcessError) as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 1
    path = BENCH / "out" / ("index-quick.json" if args.quick else "index.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")
    print("\n".join([*lines(report), f"written: {path}"]))
    return 0


def lines(report: dict) -> list[str]:
    """What a person reads."""
    said = []
    if "cells" in report:
        said += [*figures.table_lines(report["cells"]), "", *figures.filtered_lines(report["filtered"]), ""]
    if "upper" in report:
        upper = report["upper"]
        said += [*upper_figures.ladder_lines(upper), "", *upper_figures.filter_lines(upper), ""]
        said += [*upper_figures.service_lines(upper, report), ""]
    if "pgvector" in report:
        said += [*index_pgvector.lines(report["pgvector"]), ""]
    return [*said, *figures.target_lines(report["targets"]), ""]


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure what one search costs, rung by rung.")
    parser.add_argument("--release", type=pathlib.Path, required=True, help="the folder of index-svc and the examples, as cargo builds them")
    parser.add_argument("--rungs", nargs="+", choices=["lower", "upper"], default=["lower", "upper"], help="which part of the ladder")
    parser.add_argument("--pgvector", action="store_true", help="PostgreSQL with pgvector beside it, where it can be installed")
    parser.add_argument("--python", type=pathlib.Path, required=True, help="a Python with faiss and numpy")
    parser.add_argument("--quick", action="store_true", help="few rows, one kind: whether everything works")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each side")
    parser.add_argument("--kinds", nargs="+", default=None, help="the kinds to be measured")
    return parser.parse_args()


def run(args: argparse.Namespace) -> dict:
    """What was asked for, as one report."""
    rows = 20_000 if args.quick else 1_000_000
    data = vectors(args.python, rows)
    report = {"targets": {}, "rows": rows, "dim": DIM, **circumstances()}
    parts = [run_lower] if "lower" in args.rungs else []
    parts += [run_upper] if "upper" in args.rungs else []
    parts += [run_pgvector] if args.pgvector else []
    for part in parts:
        found = part(args, data, rows)
        report |= {**found, "targets": {**report["targets"], **found.get("targets", {})}}
    return report


def run_lower(args: argparse.Namespace, data: pathlib.Path, rows: int) -> dict:
    """Faiss's wheel and `ann`."""
    plan = Plan(rows=rows, rounds=3 if args.quick else args.rounds, count=50 if args.quick else 200, truth=50 if args.quick else 400)
    kinds = args.kinds or (KINDS[:1] if args.quick else KINDS)
    processor = max(os.sched_getaffinity(0))
    sides = [index_sides.wheel(args.python, data, DIM, processor), index_sides.ann(args.release.absolute() / "examples/bench_ladder", data, DIM, processor)]
    with tempfile.TemporaryDirectory(dir=data.parent) as work:
        ladder = Ladder(plan, data, pathlib.Path(work), *sides)
        measured = [ladder.kind(kind) for kind in kinds]
        version = sides[0].ask("overhead", count=1)["version"]
    for side in sides:
        side.close()
    cells = [cell for kind in measured for cell in kind["cells"]]
    filtered = [cell for kind in measured for cell in kind["filtered"]]
    found = {**figures.headline(cells), **figures.lowest_filtered_recall(filtered)}
    indexes = [kind["index"] for kind in measured]
    judged = figures.targets(found, cells, filtered)
    return {**found, "targets": judged, "cells": cells, "filtered": filtered, "indexes": indexes, "wheel_version": version}


def run_upper(args: argparse.Namespace, data: pathlib.Path, _rows: int) -> dict:
    """The snapshot, the rpc, and the service around them."""
    programs = index_service.Programs(args.release.absolute(), args.python)
    with tempfile.TemporaryDirectory(dir=data.parent) as work:
        upper = index_service.Service(programs, index_service.Plan(args.quick), data, DIM, pathlib.Path(work), say).measure()
    found = upper_figures.headline(upper)
    return {**found, "targets": upper_figures.targets(found), "upper": upper}


def run_pgvector(args: argparse.Namespace, data: pathlib.Path, rows: int) -> dict:
    """A vector database beside it, or why there is none."""
    return {"pgvector": index_pgvector.measure(args.python, data, DIM, rows, cache(), say)}


class Plan:
    """How much is measured."""

    def __init__(self, rows: int, rounds: int, count: int, truth: int):
        # `count` queries a round and side; recall is of the first `truth` users.
        self.rows, self.rounds, self.count, self.truth = rows, rounds, count, truth


class Ladder:
    """Sides that hold the same index, and the truth to judge them by."""

    def __init__(self, plan: Plan, data: pathlib.Path, work: pathlib.Path, wheel: Side, ann: Side):
        self.plan, self.data, self.work, self.wheel, self.ann = plan, data, work, wheel, ann
        calls = 2000
        self.overhead_us = min(self.wheel.ask("overhead", count=calls)["search_cpu_s"] for _ in range(3)) * 1e6 / calls

    def kind(self, kind: str) -> dict:
        """All of one kind of index."""
        say(f"{kind}: building")
        file = str(self.work / kind)
        built = self.ann.ask("build", kind=kind, file=file)
        wheel_built = self.wheel.ask("build", kind=kind, nlist=built["nlist"])
        say(f"{kind}: tuning")
        loaded = {side.name: side.ask("load", file=file, kind=kind) for side in (self.wheel, self.ann)}
        tuning = self.ann.ask("tune", goals=[[k, recall] for k, recall in GOALS.items()])
        seconds = {"wheel": wheel_built, "ann": built}
        about = {"kind": kind, "nlist": built["nlist"], "file_mib": os.path.getsize(file) / 2**20, "tune_wall_s": tuning["wall_s"]}
        for name in seconds:
            about |= {f"{name}_build_cpu_s": seconds[name]["cpu_s"], f"{name}_load_wall_s": loaded[name]["wall_s"]}
            about |= {f"{name}_memory_mib": loaded[name]["memory_mib"]}
        cells = [self.cell(kind, step) for step in tuning["tuning"]["steps"]]
        filtered = [self.filtered(kind, step, *mask) for step in tuning["tuning"]["steps"] for mask in self.masks()]
        return {"index": {**about, "tuning": tuning["tuning"]}, "cells": cells, "filtered": filtered}

    def cell(self, kind: str, step: dict) -> dict:
        """Both sides without a filter, at the same nprobe."""
        say(f"{kind}: k = {step['k']}")
        found = self.measure(step, step["parameters"]["nprobe"], "", kind)
        wheel, ann = found.pop("answers")
        bare = figures.without_overhead(wheel, self.overhead_us, self.plan.count)
        return {**found, "ann_vs_wheel": figures.ratio(wheel, ann), "ann_vs_wheel_without_python": figures.ratio(bare, ann)}

    def filtered(self, kind: str, step: dict, name: str, share: float, mask: pathlib.Path) -> dict:
        """`ann` with a filter, and the wheel with the same one, its nprobe widened as the share narrows."""
        say(f"{kind}: k = {step['k']}, {name} {100 * share:g}%")
        nprobe = min(self.nlist(kind), round(step["parameters"]["nprobe"] / max(share, 0.02)))
        found = self.measure(step, nprobe, str(mask), kind, rounds=3)
        found.pop("answers")
        return {**found, "filter": name, "share": share}

    def measure(self, step: dict, nprobe: int, mask: str, kind: str, rounds: int | None = None) -> dict:
        """Recall and processor time of both sides."""
        k, request = step["k"], {"k": step["k"], "mask": mask, "over_fetch": step["over_fetch"]}
        # As tuned, for `ann`: it is told 0. The wheel is told what that came to.
        nprobes = {"wheel": nprobe, "ann": 0}
        answers: dict[str, list[dict]] = {"wheel": [], "ann": []}
        for number in range(rounds or self.plan.rounds):
            first = number * self.plan.count % (2000 - self.plan.count + 1)
            for side in (self.wheel, self.ann):
                told = {**request, "nprobe": nprobes[side.name], "first": first, "count": self.plan.count}
                answers[side.name].append(side.ask("search", **told))
        found = {"kind": kind, "k": k, "nprobe": nprobe, "target": step["target"], "answers": [answers["wheel"], answers["ann"]]}
        truth = self.truth(k, mask)
        for side in (self.wheel, self.ann):
            hits = str(self.work / "hits")
            side.ask("search", **request, nprobe=nprobes[side.name], first=0, count=self.plan.truth, hits=hits)
            recall = self.wheel.ask("recall", hits=hits, exact=truth, k=k, count=self.plan.truth)["recall"]
            found |= {f"{side.name}_us": figures.us_per_query(answers[side.name], self.plan.count), f"{side.name}_recall": recall}
        return found

    def truth(self, k: int, mask: str) -> str:
        """The file of exact scores."""
        path = self.work / f"exact-{k}-{pathlib.Path(mask).name}"
        if not path.exists():
            self.wheel.ask("exact", k=k, count=self.plan.truth, hits=str(path), mask=mask)
        return str(path)

    def masks(self) -> list[tuple[str, float, pathlib.Path]]:
        """Filters of every share, random and going with the clusters."""
        return index_masks.masks(self.work, self.ann, self.plan.rows, figures.SHARES)

    def nlist(self, kind: str) -> int:
        """The cells of the index."""
        return self.ann.ask("about", kind=kind)["nlist"]


def vectors(python: pathlib.Path, rows: int) -> pathlib.Path:
    """The folder of vectors, generated once."""
    generator = BENCH / "index_data.py"
    folder = cache() / "bench-data" / f"index-{rows}-{zlib.crc32(generator.read_bytes()):08x}"
    if not folder.is_dir():
        for old in folder.parent.glob(f"index-{rows}-*"):
            shutil.rmtree(old)
        say(f"generating {folder}")
        subprocess.run([python, generator, f"{folder}.part", str(rows), str(DIM)], check=True)
        os.rename(f"{folder}.part", folder)
    return folder


def circumstances() -> dict:
    """What the figures depend on."""
    model = [line.partition(":")[2].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    commit = subprocess.run(["git", "-C", BENCH, "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True).stdout.strip()
    machine = {"cpu": model[0] if model else platform.machine(), "processors": os.cpu_count(), "memory_gib": round(memory, 1)}
    return {"machine": machine, "commit": commit, "load_average": os.getloadavg()[0]}


def say(text: str) -> None:
    """A line of progress."""
    print(f"[{time.monotonic() - STARTED:4.0f} s] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
