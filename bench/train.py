"""`make bench-train`: Pagoda's training step beside PyTorch's on the CPU, on the same data, shapes, batches and loss.

The two sides run in turn, each run a process of its own that is bound to its processors, in several rounds; medians are compared. What is
clocked is the training loop: Pagoda's with its own batch preparation, PyTorch's with batches that lie ready. A run during which others
used the machine is made again, once. Prints a table, writes bench/out/train.json, and says which targets are met. README.md says more.

    train.py --pagoda target/release/pagoda --python VENV/bin/python [--quick] [--large] [--rounds N]
"""

import argparse
import dataclasses
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

import train_figures as figures
from install_torch import cache
from train_figures import PAGODA, PLAIN, TUNED, Cell, Run

BENCH = pathlib.Path(__file__).resolve().parent
STARTED = time.monotonic()
TUNING = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "268435456",
    "MALLOC_ARENA_MAX": "1",
}
# Pagoda's clock includes making ready, so its runs are longer, or that would be a tenth of them.
PAGODA_STEPS_TIMES = 8
WARMUP_STEPS = 3
CONFIG = """
[model]
embedding_dim = 64
hidden = {hidden}
[training]
batch_size = {batch}
examples_max = {examples}
epochs = 1000
final_learning_rate_share = 1.0
id_dropout = 0.0
history_dropout = 0.0
[loss]
temperature = 0.1
[negatives]
in_batch = 1.0
uniform = 0.0
hard = 0.0
[evaluation]
queries_max = 100
baselines = []
"""


class BenchFault(Exception):
    """Why there are no figures."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """A data set and the model for it."""

    items: int
    users: int
    history: bool
    hidden: list[int]


SHAPES = {
    "id-only": Shape(100_000, 100_000, False, []),
    "100k": Shape(100_000, 100_000, True, [128]),
    "1m": Shape(1_000_000, 100_000, True, [128]),
    "10m": Shape(10_000_000, 1_000_000, True, [128]),
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is run: cells, how often each side is in each, and how many examples a run has."""

    cells: list[Cell]
    rounds: dict[Cell, dict[str, int]]
    examples: int


def main() -> int:
    """Runs the plan; returns the exit code."""
    args = parse()
    try:
        run = Bench(args.pagoda, args.python)
        gate = loss_gate(run, "100k", 40 if args.quick else 200)
        cells = run_plan(run, plan(args))
    except BenchFault as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 1
    found = figures.large_memory(cells) if args.large else figures.ratios(cells)
    targets = figures.targets(found, cells)
    path = write(args, {**found, "targets": targets, "cells": cells, "loss": gate, **circumstances(run)})
    print("\n".join([*figures.table_lines(cells), *figures.FOOTNOTES, "", *figures.target_lines(targets), "", f"written: {path}"]))
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Compare Pagoda's training step with PyTorch's.")
    parser.add_argument("--pagoda", type=pathlib.Path, required=True, help="the program, built for release")
    parser.add_argument("--python", type=pathlib.Path, required=True, help="a Python with torch, numpy and pyarrow")
    parser.add_argument("--quick", action="store_true", help="one small cell, once: whether everything works")
    parser.add_argument("--large", action="store_true", help="10M items alone: whether it fits, and at what speed")
    parser.add_argument("--rounds", type=int, default=1, help="how often all is repeated")
    return parser.parse_args()


def plan(args: argparse.Namespace) -> Plan:
    """The cells of a run. Those that have a target of their own are run three times; PyTorch as it comes at one batch size."""
    shapes, batches, examples = ["id-only", "100k", "1m"], [1024, 2048, 4096, 8192], 65_536
    if args.quick:
        shapes, batches, examples = ["100k"], [1024], 16_384
    if args.large:
        shapes, batches = ["10m"], [4096]
    threads = [count for count in (1, 2) if count <= len(processors())]
    cells = [Cell(shape, batch, count) for shape in shapes for batch in batches for count in threads]
    return Plan(cells, {cell: rounds_of(cell, args) for cell in cells}, examples)


def rounds_of(cell: Cell, args: argparse.Namespace) -> dict[str, int]:
    """How often each side runs in a cell."""
    is_headline = cell.shape == "1m" and cell.batch == figures.RATIO_BATCH
    times = args.rounds * (3 if is_headline else 1)
    plain = times if cell.batch == figures.RATIO_BATCH or args.quick else 0
    return {TUNED: times, PAGODA: times, PLAIN: plain}


def run_plan(bench: "Bench", plan: Plan) -> list[dict]:
    """All rounds, the sides in turn; the figures of each cell."""
    runs = {cell: {} for cell in plan.cells}
    for number in range(max(max(times.values()) for times in plan.rounds.values())):
        for cell in plan.cells:
            for side in (side for side, times in plan.rounds[cell].items() if number < times):
                say(f"{cell}: {side}")
                runs[cell].setdefault(side, []).extend(until_quiet(lambda: bench.run(side, cell, plan.examples)))
    return [figures.cell_figures(cell, sides) for cell, sides in runs.items()]


def until_quiet(run) -> list[Run]:
    """One run, and another if it was disturbed."""
    first = run()
    return [first] if figures.is_quiet(first) else [first, run()]


def loss_gate(bench: "Bench", shape: str, steps: int) -> dict:
    """The two sides' losses at the first step and in the last tenth of `steps`, which must be about equal."""
    cell = Cell(shape, 1024, 1)
    say(f"comparing losses: {cell}, {steps} steps")
    pagoda = {"first": bench.pagoda_run(cell, 1)[1]["loss"], "last": bench.pagoda_run(cell, steps)[1]["loss"]}
    found = bench.torch_run(cell, steps, 0, TUNED)[1]
    torch = {"first": found["loss_first"], "last": found["loss_last"]}
    for side, loss in (("Pagoda", pagoda), ("PyTorch", torch)):
        print(f"loss of {side}: {loss['first']:.3f} at first, {loss['last']:.3f} after {steps} steps of {cell.batch}")
    faults = figures.loss_faults(pagoda, torch)
    if faults:
        raise BenchFault("the two sides do not train the same: " + "; ".join(faults))
    return {PAGODA: pagoda, TUNED: torch, "steps": steps, "batch": cell.batch}


class Bench:
    """The two sides, ready to run."""

    def __init__(self, pagoda: pathlib.Path, python: pathlib.Path):
        self.pagoda, self.python = pagoda.absolute(), python.absolute()
        self.torch_version = None
        for program in (self.pagoda, self.python):
            if not os.access(program, os.X_OK):
                raise BenchFault(f"{program}: expected a program, found none")

    def run(self, side: str, cell: Cell, examples: int) -> Run:
        """One run of one side; at least 8 steps."""
        steps = max(8, examples // cell.batch)
        if side == PAGODA:
            return self.pagoda_run(cell, PAGODA_STEPS_TIMES * steps)[0]
        return self.torch_run(cell, steps, WARMUP_STEPS, side)[0]

    def pagoda_run(self, cell: Cell, steps: int) -> tuple[Run, dict]:
        """The real trainer, from tables to a registered model; its summary has the figures of the loop."""
        data = self.data(cell.shape)
        with tempfile.TemporaryDirectory(dir=data.parent) as work:
            config = pathlib.Path(work, "train.toml")
            config.write_text(CONFIG.format(hidden=SHAPES[cell.shape].hidden, batch=cell.batch, examples=steps * cell.batch))
            command = [self.pagoda, "train", "--data", data, "--store", f"{work}/store", "--config", config, "--json"]
            finished = run_process(command, cell.threads, {})
        summary = json.loads(finished.stdout)
        if "cpu_seconds" not in summary:
            raise BenchFault("pagoda train: expected `cpu_seconds` in the summary, found none; is the program of this version?")
        run = Run(summary["seconds"]["train"], summary["cpu_seconds"]["train"], steps, summary["examples"], finished.peak_memory_mib,
                  finished.others_cpus)  # fmt: skip
        return run, summary

    def torch_run(self, cell: Cell, steps: int, warmup_steps: int, side: str) -> tuple[Run, dict]:
        """train_torch.py with the allocator tuned or as it comes."""
        shape = SHAPES[cell.shape]
        task = {"history": shape.history, "hidden": shape.hidden, "batch": cell.batch, "steps": steps, "warmup_steps": warmup_steps,
                "threads": cell.threads}  # fmt: skip
        command = [self.python, BENCH / "train_torch.py", self.data(cell.shape), json.dumps(task)]
        finished = run_process(command, cell.threads, TUNING if side == TUNED else {})
        found = json.loads(finished.stdout)
        self.torch_version = found["torch"]
        run = Run(found["seconds"], found["cpu_seconds"], found["steps"], found["examples"], finished.peak_memory_mib, finished.others_cpus)
        return run, found

    def data(self, name: str) -> pathlib.Path:
        """The folder of a shape's data set, generated once."""
        shape, generator = SHAPES[name], BENCH / "train_data.py"
        version = zlib.crc32(generator.read_bytes() + repr(shape).encode())
        folder = cache() / "bench-data" / f"{name}-{version:08x}"
        if not folder.is_dir():
            for old in folder.parent.glob(f"{name}-*"):
                shutil.rmtree(old)
            say(f"generating {folder}")
            run_process([self.python, generator, folder, *map(str, [shape.items, shape.users, 20 if shape.history else 0])], 1, {})
        return folder


@dataclasses.dataclass(frozen=True)
class Finished:
    """A process that ended well."""

    stdout: str
    peak_memory_mib: float
    others_cpus: float


def run_process(command: list, threads: int, environment: dict[str, str]) -> Finished:
    """Runs a program on the first processors and waits for it; a fault is one line of what it said."""
    chosen = processors()[:threads]
    environment = {**{k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "OMP_", "RAYON_"))}, **environment}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        busy, started = busy_seconds(), time.monotonic()
        process = subprocess.Popen(command, stdout=out, stderr=err, env=environment, preexec_fn=lambda: os.sched_setaffinity(0, chosen))
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds, own = time.monotonic() - started, usage.ru_utime + usage.ru_stime
        others = max(0.0, busy_seconds() - busy - own) / seconds
        out.seek(0), err.seek(0)
        if process.returncode != 0:
            said = err.read().strip().splitlines() or ["nothing was said"]
            raise BenchFault(f"{pathlib.Path(command[0]).name} ended with {process.returncode}: {said[-1]}")
        return Finished(out.read(), usage.ru_maxrss / 1024, others)


def processors() -> list[int]:
    """Those that this process may use."""
    return sorted(os.sched_getaffinity(0))


def busy_seconds() -> float:
    """Processor seconds that the whole machine has worked, or was held back by its host, since it started."""
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, pathlib.Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def circumstances(bench: Bench) -> dict:
    """What the figures depend on."""
    model = [line.partition(":")[2].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    commit = subprocess.run(["git", "-C", BENCH, "describe", "--always", "--dirty", "--abbrev=12"], capture_output=True, text=True).stdout.strip()
    machine = {"cpu": model[0] if model else platform.machine(), "processors": len(processors()), "memory_gib": round(memory, 1)}
    return {"machine": machine, "commit": commit, "torch": bench.torch_version}


def write(args: argparse.Namespace, report: dict) -> pathlib.Path:
    """The figures as JSON; those of a part of the benchmark do not replace those of the whole."""
    path = BENCH / "out" / ("train-large.json" if args.large else "train-quick.json" if args.quick else "train.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**report, "rounds": args.rounds}, indent=2) + "\n")
    return path


def say(text: str) -> None:
    """A line of progress."""
    print(f"[{time.monotonic() - STARTED:4.0f} s] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
