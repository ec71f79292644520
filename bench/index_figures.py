"""The figures of `make bench-index`: ratios of paired rounds, targets, and the table that a person reads. Pure functions."""

import statistics

TARGETS = {"ann_vs_wheel": 1.0}
SHARES = [1.0, 0.1, 0.01, 0.001, 0.0001]
# Recall may fall so far below a target by the chance of which users were drawn.
RECALL_SLACK = 0.005


def us_per_query(answers: list[dict], count: int) -> dict:
    """Processor microseconds a query: median, smallest and largest of the rounds."""
    values = [answer["search_cpu_s"] * 1e6 / count for answer in answers]
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratio(slower: list[dict], faster: list[dict]) -> float:
    """The median, over rounds that ran in turns, of one side's processor time over the other's: above 1, the second is faster."""
    return statistics.median(a["search_cpu_s"] / b["search_cpu_s"] for a, b in zip(slower, faster, strict=True))


def without_overhead(answers: list[dict], overhead_us: float, count: int) -> list[dict]:
    """Answers less what the language of the side adds to every call."""
    return [{"search_cpu_s": max(1e-9, answer["search_cpu_s"] - overhead_us * count / 1e6)} for answer in answers]


def headline(cells: list[dict]) -> dict:
    """The keys that targets are about, of the first kind that was measured at k = 100."""
    first = next((cell for cell in cells if cell["k"] == 100), None)
    return {} if first is None else {"ann_vs_wheel": first["ann_vs_wheel"], "ann_vs_wheel_without_python": first["ann_vs_wheel_without_python"]}


def lowest_filtered_recall(filtered: list[dict]) -> dict:
    """The lowest recall of `ann` under any filter, by k: a filter that leaves nothing to find counts as found."""
    by_k: dict[int, float] = {}
    for cell in filtered:
        by_k[cell["k"]] = min(by_k.get(cell["k"], 1.0), cell["ann_recall"])
    return {f"filtered_recall_at_{k}_min": recall for k, recall in sorted(by_k.items())}


def targets(found: dict, cells: list[dict], filtered: list[dict]) -> dict:
    """Which targets are met: speed at equal recall, and recall, filtered and not."""
    judged = {name: {"found": found[name], "least": least, "met": found[name] >= least} for name, least in TARGETS.items() if name in found}
    for cell in cells:
        name = f"recall_at_{cell['k']}_{cell['kind']}"
        judged[name] = recall_target(cell["ann_recall"], cell["target"])
    for cell in filtered:
        name = f"filtered_recall_at_{cell['k']}_{cell['kind']}"
        if name not in judged or cell["ann_recall"] < judged[name]["found"]:
            judged[name] = recall_target(cell["ann_recall"], cell["target"])
    return judged


def recall_target(found: float, target: float) -> dict:
    """A recall that users of another draw than those of the tuning are to have."""
    return {"found": found, "least": target - RECALL_SLACK, "met": found >= target - RECALL_SLACK}


def table_lines(cells: list[dict]) -> list[str]:
    """Unfiltered search."""
    lines = ["kind              k   nprobe  recall wheel/ann   us wheel    us ann   ratio"]
    for cell in cells:
        recalls = f"{cell['wheel_recall']:.3f} / {cell['ann_recall']:.3f}"
        us = f"{cell['wheel_us']['median']:9.0f} {cell['ann_us']['median']:9.0f}"
        lines.append(f"{cell['kind']:<16} {cell['k']:>4} {cell['nprobe']:>6}   {recalls:>16} {us}   {cell['ann_vs_wheel']:5.2f}")
    return lines


def filtered_lines(filtered: list[dict]) -> list[str]:
    """Filtered search."""
    lines = ["kind               k     share filter     recall wheel/ann  us wheel  us ann"]
    for cell in filtered:
        recalls = f"{cell['wheel_recall']:.3f} / {cell['ann_recall']:.3f}"
        us = f"{cell['wheel_us']['median']:8.0f} {cell['ann_us']['median']:7.0f}"
        lines.append(f"{cell['kind']:<16} {cell['k']:>4} {100 * cell['share']:>8.2f}% {cell['filter']:<8} {recalls:>16}  {us}")
    return lines


def target_lines(judged: dict) -> list[str]:
    """Which targets are met."""
    return [f"{'met    ' if t['met'] else 'NOT MET'} {name}: {t['found']:.3f}, target {bound_text(t)}" for name, t in judged.items()]


def bound_text(target: dict) -> str:
    """What a target asks for."""
    return f"at least {target['least']:.3f}" if "least" in target else f"at most {target['most']:.3f}"
