"""Tests of what the index benchmark says, without Faiss: ratios, targets, tables."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import index_figures as figures
import index_masks


def answers(*seconds: float) -> list[dict]:
    """Rounds of a side."""
    return [{"search_cpu_s": value} for value in seconds]


def cell(kind: str = "ivf_flat", k: int = 100, ratio: float = 1.1, recall: float = 0.98, target: float = 0.98) -> dict:
    """A measured cell."""
    us = {"median": 123_456.0, "min": 1.0, "max": 2.0}
    return {"kind": kind, "k": k, "nprobe": 4096, "ann_vs_wheel": ratio, "ann_vs_wheel_without_python": ratio - 0.1, "ann_recall": recall,
            "wheel_recall": recall, "target": target, "ann_us": us, "wheel_us": us, "share": 0.0001, "filter": "cluster"}  # fmt: skip


class Figures(unittest.TestCase):
    def test_time_is_a_querys(self):
        self.assertEqual(figures.us_per_query(answers(1.0, 3.0, 2.0), 1000), {"median": 2000.0, "min": 1000.0, "max": 3000.0})

    def test_rounds_are_compared_one_by_one_and_above_one_the_second_is_faster(self):
        # A machine that is slow for a while is slow for both.
        self.assertEqual(figures.ratio(answers(2.0, 20.0, 6.0), answers(1.0, 10.0, 2.0)), 2.0)
        with self.assertRaises(ValueError):
            figures.ratio(answers(1.0), answers(1.0, 1.0))

    def test_what_a_call_costs_in_python_is_taken_off(self):
        self.assertAlmostEqual(figures.without_overhead(answers(1.0), 1000.0, 100)[0]["search_cpu_s"], 0.9)
        self.assertGreater(figures.without_overhead(answers(0.01), 1000.0, 100)[0]["search_cpu_s"], 0.0)

    def test_the_headline_is_the_first_kind_at_100(self):
        found = figures.headline([cell(k=500, ratio=3.0), cell(ratio=1.25), cell("ivf_sq8", ratio=2.0)])
        self.assertEqual(found["ann_vs_wheel"], 1.25)
        self.assertEqual(figures.headline([cell(k=500)]), {})

    def test_the_lowest_recall_counts_by_k(self):
        found = figures.lowest_filtered_recall([cell(recall=0.99), cell(recall=0.97), cell(k=500, recall=0.96)])
        self.assertEqual(found, {"filtered_recall_at_100_min": 0.97, "filtered_recall_at_500_min": 0.96})

    def test_targets_are_met_or_not(self):
        filtered = [cell(recall=0.99), cell(recall=0.97)]
        judged = figures.targets({"ann_vs_wheel": 0.99}, [cell(recall=0.976)], filtered)
        met = {name: target["met"] for name, target in judged.items()}
        self.assertEqual(met, {"ann_vs_wheel": False, "recall_at_100_ivf_flat": True, "filtered_recall_at_100_ivf_flat": False})
        self.assertEqual(len(figures.target_lines(judged)), 3)

    def test_the_tables_fit_80_columns(self):
        wide = [cell("ivf_pq_fs_refine", 500, 12.25)]
        lines = [*figures.table_lines(wide), *figures.filtered_lines(wide)]
        self.assertLessEqual(max(map(len, lines)), 80, "\n".join(lines))


class Masks(unittest.TestCase):
    def test_all_rows_are_one_filter_and_others_three(self):
        class Fake:
            asked: list[dict] = []

            def ask(self, do: str, **request) -> None:
                self.asked.append(request)

        made = index_masks.masks(pathlib.Path("/nowhere"), Fake(), 1000, [1.0, 0.1, 0.0001])
        self.assertEqual([(name, share) for name, share, _ in made][:2], [("random", 1.0), ("random", 0.1)])
        self.assertEqual([request["count"] for request in Fake.asked], [1000, 100, 100, 100, 1, 1, 1])


if __name__ == "__main__":
    unittest.main()
