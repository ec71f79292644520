"""The sides of `make bench-index`: processes that stay, and are asked in turns.

A request is one line of JSON, `{"do": NAME, ...}`, and so is its answer, with `cpu_s`, `wall_s`, `memory_mib` (held, without mapped files)
and `peak_memory_mib` of the whole process beside what was asked for. Every rung of the ladder answers `search`:

    search  k, nprobe, over_fetch, first, count, mask (a file of bits, or none), hits (a file for row numbers, 4 bytes each, or none)
            -> search_cpu_s: of all `count` queries, one at a time on one thread
    load    file, kind
    build   kind, nlist
"""

import json
import os
import pathlib
import select
import subprocess


# What takes longer hangs.
PATIENCE_S = 900


class SideFault(Exception):
    """A side that does not answer."""


class Side:
    """One rung, running."""

    def __init__(self, name: str, command: list, processors: set[int]):
        self.name = name
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
            preexec_fn=lambda: os.sched_setaffinity(0, processors),
        )  # fmt: skip

    def ask(self, do: str, **request) -> dict:
        """One request and its answer."""
        self.tell(do, **request)
        return self.answer(do)

    def tell(self, do: str, **request) -> None:
        """One request, whose answer is to be asked for."""
        try:
            self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass

    def answer(self, do: str) -> dict:
        """The answer to what it was told to do."""
        if not select.select([self.process.stdout], [], [], PATIENCE_S)[0]:
            self.process.kill()
            raise SideFault(f"{self.name} did not answer `{do}` within {PATIENCE_S} s")
        line = self.process.stdout.readline()
        if not line:
            raise SideFault(f"{self.name} ended with {self.process.wait()} at `{do}`")
        answer = json.loads(line)
        if "error" in answer:
            raise SideFault(f"{self.name}, {do}: {answer['error']}")
        return answer

    def close(self) -> None:
        """Ends it."""
        self.process.stdin.close()
        self.process.wait()


def wheel(python: pathlib.Path, data: pathlib.Path, dim: int, processor: int) -> Side:
    """Faiss as its PyPI wheel has it."""
    return Side("wheel", [python, pathlib.Path(__file__).resolve().parent / "index_wheel.py", data, dim], {processor})


def ann(program: pathlib.Path, data: pathlib.Path, dim: int, processor: int) -> Side:
    """The crate `ann`, by its example `bench_ladder`."""
    return Side("ann", [program, data, dim], {processor})
