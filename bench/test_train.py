"""Tests of what the training benchmark says, without PyTorch: medians, ratios, targets, the table, and the reading of libraries' needs."""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import install_torch
import train_figures as figures
from train_figures import PAGODA, PLAIN, TUNED, Cell, Run


def run(seconds: float, cpu: float, others: float = 0.0) -> Run:
    """A run of 10 steps of 100 examples."""
    return Run(seconds, cpu, 10, 1000, 500.0, others)


def cell(shape: str = "1m", batch: int = 4096, threads: int = 1, times: float = 2.0) -> dict:
    """A cell in which Pagoda is so many times faster than tuned PyTorch."""
    sides = {TUNED: [run(2 * times, 2 * times)], PAGODA: [run(2.0, 2.0)]}
    return figures.cell_figures(Cell(shape, batch, threads), sides)


class Figures(unittest.TestCase):
    def test_disturbed_runs_count_only_where_there_are_no_others(self):
        quiet, disturbed = run(1.0, 1.0), run(9.0, 1.0, others=0.5)
        self.assertEqual(figures.counted([disturbed, quiet]), [quiet])
        self.assertEqual(figures.counted([disturbed]), [disturbed])

    def test_a_side_has_median_and_spread(self):
        side = figures.side_figures([run(1.0, 1.0), run(4.0, 2.0), run(2.0, 1.5)])
        self.assertEqual(side["examples_per_s"], {"median": 500.0, "min": 250.0, "max": 1000.0})
        self.assertEqual(side["cpu_ms_per_step"], {"median": 150.0, "min": 100.0, "max": 200.0})

    def test_ratios_above_one_mean_that_pagoda_is_faster(self):
        sides = {TUNED: [run(4.0, 3.0)], PLAIN: [run(8.0, 8.0)], PAGODA: [run(2.0, 1.0)]}
        ratios = figures.cell_figures(Cell("1m", 4096, 1), sides)["ratios"]
        self.assertEqual((ratios[TUNED]["wall"], ratios[TUNED]["cpu"], ratios[PLAIN]["wall"]), (2.0, 3.0, 4.0))

    def test_one_thread_is_judged_by_processor_time_and_two_by_the_wall(self):
        sides = {TUNED: [run(4.0, 3.0)], PAGODA: [run(2.0, 1.0)]}
        found = [figures.speed_ratio(figures.cell_figures(Cell("1m", 4096, threads), sides)) for threads in (1, 2)]
        self.assertEqual(found, [3.0, 2.0])

    def test_the_lowest_ratio_is_of_all_cells_and_the_named_ones_of_theirs(self):
        found = figures.ratios([cell(times=2.5), cell(threads=2, times=2.4), cell("id-only", 1024, 1, 1.25)])
        self.assertEqual(found, {"ratio_per_thread_1m": 2.5, "ratio_two_threads_1m": 2.4, "ratio_min": 1.25})

    def test_targets_are_met_not_met_or_not_measured(self):
        targets = figures.targets({"ratio_per_thread_1m": 2.0, "ratio_two_threads_1m": 2.29, "ratio_min": None}, [cell()])
        self.assertEqual([target["met"] for target in targets.values()], [True, False, None])
        self.assertEqual(len(figures.target_lines(targets)), 3)

    def test_nothing_is_met_on_a_machine_that_others_use(self):
        sides = {TUNED: [run(9.0, 9.0)], PAGODA: [run(1.0, 1.0, others=0.5)]}
        disturbed = figures.cell_figures(Cell("1m", 4096, 1), sides)
        targets = figures.targets(figures.ratios([disturbed]), [disturbed])
        self.assertEqual([target["met"] for target in targets.values()], [None] * 3)
        self.assertIn("unknown", figures.target_lines(targets)[0])

    def test_memory_has_a_limit_instead(self):
        found = {gib: figures.targets({"peak_memory_10m_gib": gib}, [cell()])["peak_memory_10m_gib"]["met"] for gib in (23.0, 25.0)}
        self.assertEqual(found, {23.0: True, 25.0: False})

    def test_the_table_fits_80_columns(self):
        large = {**cell("id-only", 8192, 2, 12.0)}
        for side in (TUNED, PAGODA):
            large[side] = {**large[side], "examples_per_s": {"median": 999_999.0}, "peak_memory_mib": 24_000.0, "runs_undisturbed": 0}
        large["disturbed"] = True
        large["ratios"] = {**large["ratios"], PLAIN: {"wall": 12.5, "cpu": 12.5}}
        lines = [*figures.table_lines([large]), *figures.FOOTNOTES]
        self.assertLessEqual(max(map(len, lines)), 80, "\n".join(lines))

    def test_losses_that_differ_or_do_not_fall_are_faults(self):
        good = {"first": 9.0, "last": 7.0}
        self.assertEqual(figures.loss_faults(good, {"first": 9.5, "last": 7.2}), [])
        self.assertEqual(len(figures.loss_faults({"first": 6.9, "last": 5.0}, good)), 2)
        self.assertEqual(len(figures.loss_faults({"first": 9.0, "last": 9.0}, good)), 2)
        self.assertEqual(len(figures.loss_faults({"first": float("nan"), "last": 7.0}, good)), 2)


class Libraries(unittest.TestCase):
    def test_needs_are_read(self):
        text = " 0x1 (NEEDED)             Shared library: [libcublas.so.13]\n 0xe (SONAME)  Library soname: [libtorch.so]\n"
        self.assertEqual(install_torch.needed_names(text), ["libcublas.so.13"])

    def test_versions_are_read_of_the_needs_alone(self):
        text = """Version definition section '.gnu.version_d' contains 1 entry:
  000000: Rev: 1  Flags: BASE  Index: 1  Cnt: 1  Name: libtorch.so
Version needs section '.gnu.version_r' contains 2 entries:
  0x0000: Version: 1  File: libnvshmem_host.so.3  Cnt: 1
  0x0010:   Name: NVSHMEM  Flags: none  Version: 15
"""
        self.assertEqual(install_torch.version_files(text), {"NVSHMEM": "libnvshmem_host.so.3"})

    def test_undefined_symbols_have_a_version_or_none(self):
        text = "                 U nvshmem_free@NVSHMEM\n                 w nvshmem_init\n0000 T own\n"
        self.assertEqual(install_torch.undefined_symbols(text), [("nvshmem_free", "NVSHMEM"), ("nvshmem_init", "")])


if __name__ == "__main__":
    unittest.main()
