"""The arithmetic of index_upper_figures.py and what index_server.py reads."""

import copy
import pathlib
import unittest

import index_figures
import index_pgvector
import index_server
import index_upper_figures as figures


def load(p99: float = 2.0, failed: int = 0) -> dict:
    return {"p50_ms": 1.0, "p90_ms": 1.5, "p99_ms": p99, "max_ms": 9.0, "calls": 1000, "failed": failed}


UPPER = {
    "kind": "ivf_flat",
    "shared_processors": True,
    "clean": {
        "us": {name: figures.spread([us]) for name, us in (("wheel", 400.0), ("ann", 300.0), ("snapshot", 330.0), ("rpc", 450.0))},
        "nprobe": 1024, "recall_at_100": 0.981, "rpc_vs_raw": 1.125, "rpc_vs_ann": 1.5, "snapshot_vs_ann": 1.1,
    },
    "written": {"cells": [{"state": "delta and tombstones", "recall_at_100": 0.98, "us": {name: figures.spread([12345.0]) for name in ("snapshot", "rpc")}}]},
    "filtered": [{"share": share, "us": 12345.0, "wall_us": 123456.0, "recall_at_100": recall, "exhausted": 1000} for share, recall in ((1.0, 0.99), (0.0001, 0.97))],
    "rpc_us_without_live_recall": figures.spread([420.0]),
    "throughput_per_second": 3000.0, "rate_per_second_written": 900.0, "rate_per_second": 1200.0, "latency": load(4.0),
    "memory": {"rss_mib": 700.0, "anonymous_mib": 300.0, "peak_rss_mib": 2000.0},
    "build_wall_s": 60.0, "restart_to_ready_s": 1.5,
    "visible": {"upsert": load(20.0), "delete": load(15.0), "found_after_delete": 0},
    "publication": {"before": load(2.0), "during": load(3.5), "all": load(failed=1), "during_build": load(6.0, failed=2), "publish_s": [1.0, 3.0, 2.0]},
}  # fmt: skip


class Figures(unittest.TestCase):
    def test_a_call_costs_what_is_above_idling(self):
        self.assertAlmostEqual(figures.us_per_call(1.0, 1000, 0.01, 10.0), 900.0)
        self.assertEqual(figures.us_per_call(0.0, 1000, 0.01, 10.0), 0.0)
        self.assertEqual(figures.us_per_call(0.0, 0, 0.0, 0.0), 0.0)

    def test_a_ratio_compares_rounds(self):
        self.assertEqual(figures.ratio([2.0, 30.0, 4.0], [1.0, 10.0, 2.0]), 2.0)
        with self.assertRaises(ValueError):
            figures.ratio([1.0], [1.0, 1.0])

    def test_overlap_is_of_what_there_is_to_find(self):
        self.assertEqual(figures.overlap([[1, 2], [], [7]], [[2, 3], [], [7]]), (0.5 + 1.0 + 1.0) / 3)

    def test_the_headline_has_every_key_of_a_target(self):
        found = figures.headline(UPPER)
        self.assertEqual(found["publish_p99_ratio"], 1.75)
        self.assertEqual(found["publish_failed_calls"], 3)
        self.assertEqual(found["build_p99_ratio"], 1.5)
        self.assertEqual(found["rpc_vs_ann_without_live_recall"], 1.4)
        self.assertEqual(found["filtered_rpc_recall_at_100_min"], 0.97)
        self.assertLessEqual(set(figures.LIMITS), set(found))

    def test_targets_are_met_or_not(self):
        met = {name: target["met"] for name, target in figures.targets(figures.headline(UPPER)).items()}
        self.assertEqual([name for name, is_met in met.items() if not is_met], ["publish_p99_ratio", "publish_failed_calls", "filtered_rpc_recall_at_100_min"])

    def test_the_tables_fit_110_columns_and_say_which_bound(self):
        found = figures.headline(UPPER)
        judged = index_figures.target_lines(figures.targets(found))
        lines = [*figures.ladder_lines(UPPER), *figures.filter_lines(UPPER), *figures.service_lines(UPPER, found), *judged]
        self.assertLessEqual(max(map(len, lines)), 110, "\n".join(lines))
        self.assertTrue(any("at most 1.350" in line for line in judged) and any("at least 0.975" in line for line in judged))

    def test_a_quiet_load_of_no_calls_is_no_division_by_zero(self):
        upper = copy.deepcopy(UPPER)
        upper["publication"]["before"]["p99_ms"] = 0.0
        self.assertGreater(figures.headline(upper)["publish_p99_ratio"], 1.0)

    def test_what_was_left_out_says_why(self):
        self.assertEqual(index_pgvector.lines({"skipped": "no network"}), ["pgvector was left out: no network"])


class Proc(unittest.TestCase):
    def test_processor_time_is_read_past_any_name(self):
        fields = ["S", *("0" for _ in range(10)), "300", "50", "7", "8"]
        self.assertEqual(index_server.processor_seconds(f"12 (a) b (c) {' '.join(fields)}"), 350 / index_server.TICKS)

    def test_memory_is_read_from_this_process(self):
        status = pathlib.Path("/proc/self/status").read_text()
        self.assertGreater(index_server.status_mib(status, "VmRSS"), 1.0)
        self.assertEqual(index_server.status_mib("VmRSSx:\t1 kB\nVmRSS:\t2048 kB", "VmRSS"), 2.0)


if __name__ == "__main__":
    unittest.main()
