"""A vector database beside `make bench-index`: PostgreSQL with pgvector, with the same vectors and queries, tuned to the same recall.

PostgreSQL comes from a wheel, which is installed into a virtual environment of its own, runs as a user without rights where this is root, and keeps its
data in a folder that goes when it ends. What cannot be installed is left out, with a message: nothing else depends on it.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import zlib

import index_sides
from index_sides import Side, SideFault

BENCH = pathlib.Path(__file__).resolve().parent
REQUIREMENTS = BENCH / "requirements-pgvector.txt"
K = 100
RECALL = 0.98
PROBES = [1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024]


def measure(python: pathlib.Path, data: pathlib.Path, dim: int, rows: int, cache: pathlib.Path, say) -> dict:
    """What it costs, or why that is not known."""
    try:
        own = install(cache, say)
        with tempfile.TemporaryDirectory(prefix="pagoda-bench-pgvector-") as work:
            return ask(own, python, data, dim, rows, pathlib.Path(work), say)
    except (SideFault, OSError, subprocess.CalledProcessError) as fault:
        say(f"pgvector is left out: {fault}")
        return {"skipped": str(fault)}


def install(cache: pathlib.Path, say) -> pathlib.Path:
    """The Python of an environment that has it."""
    folder = cache / "bench-pgvector-venv"
    python, stamp = folder / "bin/python", folder / "stamp"
    wanted = f"{zlib.crc32(REQUIREMENTS.read_bytes()):08x}"
    if not (stamp.is_file() and stamp.read_text() == wanted):
        say(f"installing PostgreSQL with pgvector into {folder}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", REQUIREMENTS]
        subprocess.run(pip, check=True, stdout=sys.stderr)
        stamp.write_text(wanted)
    return python


def ask(own: pathlib.Path, python: pathlib.Path, data: pathlib.Path, dim: int, rows: int, work: pathlib.Path, say) -> dict:
    """Builds, finds the number of probes that reaches the recall with some users, and measures with others."""
    processors = os.sched_getaffinity(0)
    truth = index_sides.wheel(python, data, dim, max(processors))
    base = Side("pgvector", [own, BENCH / "index_pgvector_side.py", data, dim, work], processors)
    count, hits, exact = 200, str(work / "hits"), str(work / "exact")
    try:
        truth.ask("exact", k=K, count=count, hits=exact)
        say("pgvector: loading and building")
        # As many cells as the other side's index has.
        built = base.ask("build", lists=max(1, int(4 * rows**0.5)))
        for probes in PROBES:
            base.ask("search", k=K, probes=probes, first=0, count=count, hits=hits)
            recall = truth.ask("recall", hits=hits, exact=exact, k=K, count=count)["recall"]
            if recall >= RECALL:
                break
        say(f"pgvector: {probes} probes, recall {recall:.3f}")
        rounds = [base.ask("search", k=K, probes=probes, first=200 * n, count=200)["backend_cpu_s"] * 1e6 / 200 for n in range(1, 6)]
    finally:
        base.close()
        truth.close()
    return {"index": "ivfflat", "lists": built["lists"], "probes": probes, "recall_at_100": recall, "us_per_call": sorted(rounds)[len(rounds) // 2],
            "us_min": min(rounds), "us_max": max(rounds), **{key: built[key] for key in ("version", "load_s", "build_s", "index_mib")}}  # fmt: skip


def lines(found: dict) -> list[str]:
    """What a person reads."""
    if "skipped" in found:
        return [f"pgvector was left out: {found['skipped']}"]
    return [
        f"{found['version']}, {found['index']}, {found['lists']} lists, {found['probes']} probes: recall_at_100 {found['recall_at_100']:.3f}",
        f"us of the backend a call: {found['us_per_call']:.0f} ({found['us_min']:.0f} to {found['us_max']:.0f}); load {found['load_s']:.0f} s, build {found['build_s']:.0f} s",
    ]
