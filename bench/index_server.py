"""A real index-svc for `make bench-index`: started, stopped, and its processor time and memory read from /proc."""

import os
import pathlib
import signal
import socket
import subprocess
import time

from index_sides import SideFault

TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """One process, on a store that outlives it."""

    def __init__(self, program: pathlib.Path, work: pathlib.Path, processors: set[int]):
        self.program, self.work, self.processors = program, work, processors
        self.store = work / "store"
        self.address = f"127.0.0.1:{free_port()}"
        self.process: subprocess.Popen | None = None

    def start(self, *settings: str) -> None:
        """Starts it, with these settings over the defaults; it need not be ready."""
        told = [f"store.url={self.store}", f"listen.address={self.address}", "listen.metrics_address=", "log.filter=warn", "drain.grace_ms=200", *settings]
        command = [self.program, "--stop-with-stdin", *(word for setting in told for word in ("--set", setting))]
        self.process = subprocess.Popen(
            command, cwd=self.work, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            preexec_fn=lambda: os.sched_setaffinity(0, self.processors),
        )  # fmt: skip

    def stop(self) -> None:
        """Ends it as an operator would."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdin.close()
        self.process = None

    def cpu_s(self) -> float:
        """Processor seconds so far."""
        return processor_seconds(self.proc("stat"))

    def memory_mib(self) -> dict:
        """All that is resident, what of it is no file's, and the most that ever was."""
        status = self.proc("status")
        names = {"rss_mib": "VmRSS", "anonymous_mib": "RssAnon", "peak_rss_mib": "VmHWM"}
        return {key: status_mib(status, name) for key, name in names.items()}

    def proc(self, name: str) -> str:
        """A file of the process in /proc."""
        if self.process is None or self.process.poll() is not None:
            raise SideFault("index-svc has ended; what it said stands above")
        return pathlib.Path(f"/proc/{self.process.pid}/{name}").read_text()

    def idle_share(self, seconds: float) -> float:
        """Processor seconds a second while nobody asks."""
        cpu, began = self.cpu_s(), time.monotonic()
        time.sleep(seconds)
        return (self.cpu_s() - cpu) / (time.monotonic() - began)


def free_port() -> int:
    """A port that is free now, so that a restart may take the same."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def processor_seconds(stat: str) -> float:
    """User and system time of /proc/PID/stat, with those of all threads; the name in parentheses may hold anything."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def status_mib(status: str, name: str) -> float:
    """A line of /proc/PID/status."""
    line = next(line for line in status.splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024
