"""The figures of `make bench-train`: medians and spreads of runs, ratios, targets, and the table that a person reads. Pure functions."""

import dataclasses
import statistics

PAGODA, TUNED, PLAIN = "pagoda", "pytorch_tuned", "pytorch_as_it_comes"
RATIO_BATCH = 4096
TARGETS = {"ratio_per_thread_1m": 2.0, "ratio_two_threads_1m": 2.3, "ratio_min": 1.5}
# The most that training on 10M items may take.
LIMITS = {"peak_memory_10m_gib": 24.0}
# How far the two sides' losses may lie apart, as a share; they differ in their starting values, in Adagrad's state and in masking.
LOSS_TOLERANCE = 0.15


@dataclasses.dataclass(frozen=True)
class Cell:
    """One row of the table: what both sides do."""

    shape: str
    batch: int
    threads: int

    def __str__(self) -> str:
        return f"{self.shape}, batch {self.batch}, {self.threads} thread{'s' if self.threads > 1 else ''}"


@dataclasses.dataclass(frozen=True)
class Run:
    """One side, once. Seconds are of the training loop alone; memory is the whole process's."""

    seconds: float
    cpu_seconds: float
    steps: int
    examples: int
    peak_memory_mib: float
    # Processors that others kept busy meanwhile; above a limit the run counts only where no quieter one exists.
    others_cpus: float

    def examples_per_s(self) -> float:
        """By the clock on the wall."""
        return self.examples / self.seconds

    def cpu_ms_per_step(self) -> float:
        """Of all threads together."""
        return 1000 * self.cpu_seconds / self.steps


# A tenth of a processor: what the operating system and a shell take.
OTHERS_CPUS_MAX = 0.1


def is_quiet(run: Run) -> bool:
    """Whether hardly anyone else was at work."""
    return run.others_cpus <= OTHERS_CPUS_MAX


def counted(runs: list[Run]) -> list[Run]:
    """The undisturbed runs; all of them where there are none."""
    return [run for run in runs if is_quiet(run)] or runs


def spread(values: list[float]) -> dict:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def side_figures(runs: list[Run]) -> dict:
    """What one side did in one cell."""
    used = counted(runs)
    return {
        "examples_per_s": spread([run.examples_per_s() for run in used]),
        "cpu_ms_per_step": spread([run.cpu_ms_per_step() for run in used]),
        "wall_ms_per_step": spread([1000 * run.seconds / run.steps for run in used]),
        "peak_memory_mib": max(run.peak_memory_mib for run in runs),
        "runs": len(runs),
        "runs_undisturbed": sum(map(is_quiet, runs)),
    }


def cell_figures(cell: Cell, sides: dict[str, list[Run]]) -> dict:
    """All sides in one cell, and Pagoda's ratios to the others; above 1 Pagoda is faster."""
    figures = {side: side_figures(runs) for side, runs in sides.items()}
    ratios = {side: ratios_of(figures[side], figures[PAGODA]) for side in (TUNED, PLAIN) if side in figures}
    disturbed = any(figures[side]["runs_undisturbed"] == 0 for side in (PAGODA, TUNED))
    return {**dataclasses.asdict(cell), **figures, "ratios": ratios, "disturbed": disturbed}


def ratios_of(other: dict, pagoda: dict) -> dict:
    """How many times faster Pagoda is, by the wall and by processor time, and how much of the other's memory it needs."""
    return {
        "wall": pagoda["examples_per_s"]["median"] / other["examples_per_s"]["median"],
        "cpu": other["cpu_ms_per_step"]["median"] / pagoda["cpu_ms_per_step"]["median"],
        "memory": pagoda["peak_memory_mib"] / other["peak_memory_mib"],
    }


def speed_ratio(cell: dict, side: str = TUNED) -> float:
    """The ratio that counts: of processor time on one thread, which others cannot disturb; of the wall on several, which must be kept busy."""
    return cell["ratios"][side]["cpu" if cell["threads"] == 1 else "wall"]


def ratios(cells: list[dict]) -> dict[str, float | None]:
    """The figures that have a target; None where their cells were not run."""

    def at(threads: int) -> float | None:
        found = [speed_ratio(c) for c in cells if (c["shape"], c["batch"], c["threads"]) == ("1m", RATIO_BATCH, threads)]
        return found[0] if found else None

    lowest = min((speed_ratio(cell) for cell in cells), default=None)
    return {"ratio_per_thread_1m": at(1), "ratio_two_threads_1m": at(2), "ratio_min": lowest}


def large_memory(cells: list[dict]) -> dict[str, float]:
    """The figure that has a limit."""
    return {"peak_memory_10m_gib": max(cell[PAGODA]["peak_memory_mib"] for cell in cells) / 1024}


def targets(found: dict[str, float | None], cells: list[dict]) -> dict[str, dict]:
    """Each figure beside its target, which is the least or the most that it should be; whether it is met nobody knows who measured on a machine in use."""
    disturbed = any(cell["disturbed"] for cell in cells)
    return {name: target(name, value, disturbed and name in TARGETS) for name, value in found.items()}


def target(name: str, value: float | None, disturbed: bool) -> dict:
    """One figure and its target."""
    met = value is not None and (value >= TARGETS[name] if name in TARGETS else value <= LIMITS[name])
    return {"target": TARGETS.get(name) or LIMITS[name], "found": value, "disturbed": disturbed, "met": None if value is None or disturbed else met}


def target_lines(targets: dict[str, dict]) -> list[str]:
    """The same, to be read."""
    words = {True: "met", False: "NOT MET", None: "not measured"}
    found = lambda t: "-" if t["found"] is None else f"{t['found']:.2f}"
    word = lambda t: "unknown: others used the machine" if t["disturbed"] and t["found"] is not None else words[t["met"]]
    return [f"{name:<22} {found(t):>6}   target {t['target']:.1f}   {word(t)}" for name, t in targets.items()]


def loss_faults(pagoda: dict, torch: dict) -> list[str]:
    """Where the two sides' losses say that they do not train the same thing; each has `first` and `last`."""
    faults = [f"{side}: the loss did not fall, from {loss['first']:.3f} to {loss['last']:.3f}"
              for side, loss in (("Pagoda", pagoda), ("PyTorch", torch)) if not loss["last"] < loss["first"]]  # fmt: skip
    for which in ("first", "last"):
        ours, theirs = pagoda[which], torch[which]
        if not abs(ours - theirs) <= LOSS_TOLERANCE * abs(theirs):
            faults.append(f"the {which} loss: Pagoda {ours:.3f}, PyTorch {theirs:.3f}, more than {LOSS_TOLERANCE:.0%} apart")
    return faults


HEADER = [
    "shape    batch thr | PyTorch, tuned     | Pagoda             | times as fast as",
    "                   |    ex/s  CPU   MiB |    ex/s  CPU   MiB | tuned  untuned",
]


def table_lines(cells: list[dict]) -> list[str]:
    """The table, at most 80 columns wide."""
    return [*HEADER, *[row(cell) for cell in cells]]


def row(cell: dict) -> str:
    """One line of it."""
    place = f"{cell['shape']:<8} {cell['batch']:>5} {cell['threads']:>3}"
    plain = f"{speed_ratio(cell, PLAIN):>6.2f}" if PLAIN in cell["ratios"] else f"{'-':>6}"
    return f"{place} | {columns(cell[TUNED])} | {columns(cell[PAGODA])} | {speed_ratio(cell):>5.2f} {plain}{' *' if cell['disturbed'] else ''}"


def columns(side: dict) -> str:
    """Examples a second, processor milliseconds a step, memory."""
    return f"{side['examples_per_s']['median']:>7,.0f} {side['cpu_ms_per_step']['median']:>4.0f} {side['peak_memory_mib']:>5.0f}"


FOOTNOTES = [
    "ex/s: examples per second by the wall. CPU: processor ms per step, all threads.",
    "MiB: peak memory of the whole process. times as fast: by CPU on one thread, by",
    "the wall on two. *: others used the machine during every run of the cell.",
]
