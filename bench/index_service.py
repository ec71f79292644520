"""The upper rungs of `make bench-index`: a snapshot's search and the whole rpc, on the same vectors, and what a service does beside answering.

A real index-svc on a store of its own takes the catalog by BuildGeneration and is asked by a client that is a side as well (index_sides.py), the example
`bench_load`:

    ready         spaces, within_s                      -> lsn, counts
    build         kind                                  -> generation_id, build_s, recall_at_100
    publish       generation_id
    search        k, exact, share, tag, first, count, rows -> rows: of each user, what was found
    throughput    ..., seconds, concurrency             -> per_second, client_cpu_s
    load          ..., rate, seconds                    -> p50_ms, p99_ms, calls, failed: of an open loop
    publications  ..., rate, before_s, after_s, generation_ids
    fill          upserts, delete_one_in                -> lsn
    visible       ..., rate, count                      -> upsert, delete, found_after_delete

The example `bench_snapshot` follows the same log in a process of its own, and answers `reach` (lsn) and `search` (k, tag, first, count). The lower rungs load the
generation's own file, and search it as the generation's manifest says.
"""

import array
import json
import os
import pathlib
import statistics
import time

import index_sides
import index_upper_figures as figures
from index_server import Server
from index_sides import Side, SideFault

K = 100
IVF_FLAT = 2
KINDS = ["unspecified", "flat", "ivf_flat", "ivf_sq8", "hnsw", "ivf_pq_fs_refine"]
SHARES = [1.0, 0.1, 0.01, 0.001, 0.0001]
# The tag of half of the items.
HALF = "a"
# A load at this share of what the server can do.
LOAD_SHARE = 0.4


class Plan:
    """How much is measured."""

    def __init__(self, quick: bool):
        # Seconds of load a round; users a round of the other sides, and for recall; fresh items; deletes, one in so many; writes that are looked for.
        self.rounds, self.load_s, self.users, self.truth = (3, 1.0, 200, 50) if quick else (9, 4.0, 1000, 200)
        self.latency_s, self.throughput_s, self.idle_s = (2.0, 1.0, 1.0) if quick else (20.0, 6.0, 4.0)
        self.fresh, self.delete_one_in, self.writes = (200, 100, 20) if quick else (10_000, 100, 200)
        self.publications, self.around_s = (2, (1.0, 0.5)) if quick else (4, (6.0, 2.0))
        # A small catalog would be searched without an index.
        self.kind = IVF_FLAT if quick else 0


class Programs:
    """What is run."""

    def __init__(self, release: pathlib.Path, python: pathlib.Path):
        self.server, examples = release / "index-svc", release / "examples"
        self.load, self.snapshot, self.ann = examples / "bench_load", examples / "bench_snapshot", examples / "bench_ladder"
        self.python = python


class Service:
    """The server, its client, and what was found so far."""

    def __init__(self, programs: Programs, plan: Plan, data: pathlib.Path, dim: int, work: pathlib.Path, say):
        self.programs, self.plan, self.data, self.dim, self.work, self.say = programs, plan, data, dim, work, say
        processors = sorted(os.sched_getaffinity(0))
        # The server has two processors; the client others, where there are some.
        self.server_processors, others = set(processors[:2]), set(processors[2:])
        self.client_processors = others or self.server_processors
        self.side_processor = processors[-1]
        self.server = Server(programs.server, work, self.server_processors)
        self.load = Side("load", [programs.load, data, dim, self.server.address], self.client_processors)
        self.sides: list[Side] = []
        self.idle = 0.0
        self.rate = 0.0

    def measure(self) -> dict:
        """All of it."""
        try:
            found = self.fill()
            found |= self.capacity()
            found |= {"clean": self.clean()}
            found |= {"latency": self.latency(), "memory": self.server.memory_mib()}
            found |= {"filtered": [self.filtered(share) for share in SHARES]}
            found |= {"written": self.written()}
            self.close_sides()
            # Calls cost more with what was written.
            self.rate = found["rate_per_second_written"] = self.bearable_rate({"k": K})
            found |= {"visible": self.visible(), "publication": self.publication(found["generation_id"])}
            found |= {"memory_after_publications": self.server.memory_mib()}
            return found | self.restarted()
        finally:
            self.close_sides()
            self.load.close()
            self.server.stop()

    def fill(self) -> dict:
        """Starts the server, builds and publishes; the sides open what was built."""
        self.server.start()
        self.load.ask("ready", spaces=0, within_s=60)
        self.say("rpc: building a generation")
        cpu = self.server.cpu_s()
        built = self.load.ask("build", kind=self.plan.kind)
        cpu, build_wall_s = self.server.cpu_s() - cpu, built["wall_s"]
        published = self.load.ask("publish", generation_id=built["generation_id"])
        self.open_sides(built["generation_id"])
        self.load.ask("search", k=K, first=0, count=200)
        self.idle = self.server.idle_share(self.plan.idle_s)
        return {"generation_id": built["generation_id"], "kind": KINDS[built["kind"]], "recall_at_100_of_the_report": built["recall_at_100"],
                "build_wall_s": build_wall_s, "build_of_it_in_the_report_s": built["build_s"], "build_cpu_s": cpu,
                "publish_wall_s": published["wall_s"], "idle_cpu_share": self.idle, "shared_processors": self.client_processors == self.server_processors}  # fmt: skip

    def open_sides(self, generation: str) -> None:
        """The rungs below, on the same file, and the snapshot of the same store."""
        folder = self.server.store / "index/main/generations" / generation
        manifest = json.loads((folder / "manifest.json").read_text())
        self.tuning = manifest["tunings"][0]
        step = next(step for step in self.tuning["steps"] if step["k"] >= K)
        self.told = {"nprobe": step["parameters"]["nprobe"], "over_fetch": step.get("over_fetch", 0)}
        kind = manifest["spec"]["kind"]
        file = str(folder / "shard-0/faiss.index")
        self.wheel, self.wheel_flat = (index_sides.wheel(self.programs.python, self.data, self.dim, self.side_processor) for _ in range(2))
        self.ann = index_sides.ann(self.programs.ann, self.data, self.dim, self.side_processor)
        self.snapshot = Side("snapshot", [self.programs.snapshot, self.data, self.dim, self.server.store], {self.side_processor})
        self.sides = [self.wheel, self.wheel_flat, self.ann, self.snapshot]
        # Where 8-bit codes and re-scoring are the slower way for Faiss, it is compared with at its plain lists.
        flat = str(self.work / "ivf_flat")
        self.ann.ask("build", kind="ivf_flat", file=flat)
        self.wheel_flat.ask("load", file=flat, kind="ivf_flat")
        for side in (self.wheel, self.ann):
            side.ask("load", file=file, kind=kind)
        self.ann.ask("tuned", tuning=self.tuning)

    def close_sides(self) -> None:
        """Ends them, so that they take nothing from what is measured next."""
        for side in self.sides:
            side.close()
        self.sides = []

    def capacity(self) -> dict:
        """Calls a second when there are always more of them than processors; sets the rate of the loads to come."""
        self.say("rpc: throughput")
        self.load.ask("throughput", k=K, seconds=1, concurrency=8)
        found = []
        for concurrency in (2, 4, 16):
            cpu = self.server.cpu_s()
            answer = self.load.ask("throughput", k=K, seconds=self.plan.throughput_s, concurrency=concurrency)
            us = figures.us_per_call(self.server.cpu_s() - cpu, answer["calls"], 0.0, 0.0)
            found.append({**answer, "concurrency": concurrency, "server_us": us})
        best = max(found, key=lambda answer: answer["per_second"])
        self.rate = LOAD_SHARE * best["per_second"]
        return {"throughput": found, "throughput_per_second": best["per_second"], "rate_per_second": self.rate}

    def clean(self) -> dict:
        """All rungs in turns on one generation without writes."""
        overhead_us = min(self.wheel.ask("overhead", count=2000)["search_cpu_s"] for _ in range(3)) * 1e6 / 2000
        rungs = {"wheel": [], "wheel_flat": [], "ann": [], "snapshot": [], "rpc": []}
        for number in range(self.plan.rounds):
            self.say(f"ladder: round {number + 1} of {self.plan.rounds}")
            told = {"k": K, "first": number * self.plan.users % (2000 - self.plan.users + 1), "count": self.plan.users}
            for name, wheel in (("wheel", self.wheel), ("wheel_flat", self.wheel_flat)):
                rungs[name].append(self.side_us(wheel, **told, **self.told) - overhead_us)
            rungs["ann"].append(self.side_us(self.ann, **told, nprobe=0))
            rungs["snapshot"].append(self.side_us(self.snapshot, **told))
            rungs["rpc"].append(self.rpc_us({"k": K}))
        raw = min((rungs["wheel"], rungs["wheel_flat"]), key=statistics.median)
        return {"us": {name: figures.spread(us) for name, us in rungs.items()}, "nprobe": self.told["nprobe"], "recall_at_100": self.recall_by_numpy(),
                "rpc_vs_raw": figures.ratio(rungs["rpc"], raw), "rpc_vs_ann": figures.ratio(rungs["rpc"], rungs["ann"]),
                "snapshot_vs_ann": figures.ratio(rungs["snapshot"], rungs["ann"])}  # fmt: skip

    def side_us(self, side: Side, count: int, **request) -> float:
        """Processor time of a search, of a side that counts its own."""
        return side.ask("search", count=count, **request)["search_cpu_s"] * 1e6 / count

    def bearable_rate(self, wanted: dict) -> float:
        """The rate, or, for calls that cost more, the same share of what the server can do of them."""
        answer = self.load.ask("throughput", seconds=self.plan.throughput_s / 3, concurrency=4, **wanted)
        return min(self.rate, LOAD_SHARE * answer["per_second"])

    def rpc_us(self, wanted: dict, rate: float | None = None) -> float:
        """Processor time of the server for a call, at a rate."""
        cpu = self.server.cpu_s()
        answer = self.load.ask("load", rate=rate or self.rate, seconds=self.plan.load_s, **wanted)
        if answer["failed"]:
            raise SideFault(f"{answer['failed']} of {answer['calls']} calls failed")
        return figures.us_per_call(self.server.cpu_s() - cpu, answer["calls"], self.idle, answer["wall_s"])

    def recall_by_numpy(self) -> float:
        """Of the rpc, against matrix products by NumPy."""
        rows = self.rows({"k": K})
        exact, hits = str(self.work / "exact"), self.work / "hits"
        self.wheel.ask("exact", k=K, count=self.plan.truth, hits=exact)
        hits.write_bytes(b"".join(array.array("i", (found + [-1] * K)[:K]).tobytes() for found in rows))
        return self.wheel.ask("recall", hits=str(hits), exact=exact, k=K, count=self.plan.truth)["recall"]

    def rows(self, wanted: dict) -> list[list[int]]:
        """What the first users find, as rows."""
        return self.load.ask("search", first=0, count=self.plan.truth, rows=True, **wanted)["rows"]

    def recall(self, wanted: dict) -> float:
        """Against exact search by the same rpc."""
        return figures.overlap(self.rows(wanted), self.rows({**wanted, "exact": True}))

    def latency(self) -> dict:
        """Of a longer load at the rate."""
        self.say(f"rpc: latency at {self.rate:.0f} calls a second")
        return self.load.ask("load", k=K, rate=self.rate, seconds=self.plan.latency_s)

    def filtered(self, share: float) -> dict:
        """One call after the other with a filter that matches this share."""
        self.say(f"rpc: filter of {100 * share:g}%")
        wanted = {"k": K, "share": share}
        # What a filter costs the first time is not a call's.
        self.load.ask("search", first=0, count=5, **wanted)
        cpu = self.server.cpu_s()
        count = 5 * self.plan.truth
        answer = self.load.ask("search", first=0, count=count, **wanted)
        us = figures.us_per_call(self.server.cpu_s() - cpu, count, self.idle, answer["wall_s"])
        return {"share": share, "us": us, "wall_us": answer["wall_s"] * 1e6 / count, "recall_at_100": self.recall(wanted), "exhausted": answer["exhausted"]}

    def written(self) -> dict:
        """The snapshot and the rpc again, with a delta, tombstones and a filter that matches half; and the filter alone, which is the larger part."""
        self.say("writing a delta and tombstones")
        filled = self.load.ask("fill", upserts=self.plan.fresh, delete_one_in=self.plan.delete_one_in)
        self.snapshot.ask("reach", lsn=filled["lsn"])
        cells = []
        for name, wanted in (("delta and tombstones", {}), ("and a filter of half", {"tag": HALF})):
            us, rate = {"snapshot": [], "rpc": []}, self.bearable_rate({"k": K, **wanted})
            for number in range(max(3, self.plan.rounds // 2)):
                self.say(f"{name}: round {number + 1}")
                first = number * self.plan.users % (2000 - self.plan.users + 1)
                us["snapshot"].append(self.side_us(self.snapshot, k=K, first=first, count=self.plan.users, **wanted))
                us["rpc"].append(self.rpc_us({"k": K, **wanted}, rate))
            spread = {rung: figures.spread(values) for rung, values in us.items()}
            cells.append({"state": name, "us": spread, "recall_at_100": self.recall({"k": K, **wanted}), "rpc_vs_snapshot": figures.ratio(us["rpc"], us["snapshot"])})
        return {"fill": filled, "counts": self.load.ask("ready", spaces=1, within_s=5)["counts"], "cells": cells}

    def visible(self) -> dict:
        """How soon writes are seen, under load."""
        self.say("writes under load")
        return self.load.ask("visible", k=K, rate=self.rate, count=self.plan.writes)

    def publication(self, first: str) -> dict:
        """A second generation, built while the first answers, then both published in turns under load."""
        self.say("building a second generation under load")
        # It stands for a program of another machine, and gives way to what is measured.
        builder = Side("builder", ["nice", "-n", "10", self.programs.load, self.data, self.dim, self.server.address], self.client_processors)
        try:
            builder.tell("build", kind=self.plan.kind)
            during_build = self.load.ask("load", k=K, rate=self.rate, seconds=5 * self.plan.load_s)
            second = builder.answer("build")["generation_id"]
        finally:
            builder.close()
        # What was just written to the disk is on its way there for a while.
        time.sleep(self.plan.around_s[1])
        ids = [(second, first)[number % 2] for number in range(self.plan.publications)]
        self.say(f"publishing {len(ids)} times under load")
        before_s, after_s = self.plan.around_s
        found = self.load.ask("publications", k=K, rate=self.rate, before_s=before_s, after_s=after_s, generation_ids=ids)
        return {**found, "during_build": during_build}

    def restarted(self) -> dict:
        """From the start of the process until it can answer, twice; the second one measures without live recall what live recall costs."""
        seconds = []
        for settings in ((), ("search.live_recall_share=0",)):
            self.say("restarting")
            self.server.stop()
            began = time.monotonic()
            self.server.start(*settings)
            self.load.ask("ready", spaces=1, within_s=300)
            seconds.append(time.monotonic() - began)
        self.load.ask("search", k=K, first=0, count=200)
        memory = self.server.memory_mib()
        self.say("rpc: without live recall")
        us = [self.rpc_us({"k": K}) for _ in range(3)]
        return {"restart_to_ready_s": min(seconds), "memory_after_restart": memory, "rpc_us_without_live_recall": figures.spread(us)}
