"""The figures of the upper rungs of `make bench-index`: the rpc beside the raw search, what goes on under load, targets and tables. Pure functions."""

import statistics

from index_figures import recall_target

# At most so much.
LIMITS = {
    "rpc_vs_raw": 1.35,
    "publish_p99_ratio": 1.5,
    "publish_failed_calls": 0,
    "upsert_visible_p99_ms": 1000.0,
    "deletes_found_after": 0,
}
RECALL_TARGET = 0.98


def us_per_call(cpu_s: float, calls: int, idle_share: float, wall_s: float) -> float:
    """Processor microseconds of a call, less what the process takes anyway."""
    return max(0.0, cpu_s - idle_share * wall_s) * 1e6 / max(1, calls)


def spread(values: list[float]) -> dict:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratio(upper: list[float], lower: list[float]) -> float:
    """The median, over rounds that ran in turns, of one rung over another: above 1, the first costs more."""
    return statistics.median(a / b for a, b in zip(upper, lower, strict=True))


def overlap(found: list[list[int]], exact: list[list[int]]) -> float:
    """The share of what is exact that was found, on average; whoever has nothing to find has found it."""
    return statistics.mean(len(set(a) & set(b)) / len(b) if b else 1.0 for a, b in zip(found, exact, strict=True))


def headline(upper: dict) -> dict:
    """The keys that targets are about, and those that people ask for."""
    clean, publication, visible = upper["clean"], upper["publication"], upper["visible"]
    without = upper["rpc_us_without_live_recall"]["median"]
    calls = [publication["all"], publication["during_build"]]
    return {
        "rpc_vs_raw": clean["rpc_vs_raw"],
        "rpc_vs_ann": clean["rpc_vs_ann"],
        "rpc_vs_ann_without_live_recall": without / clean["us"]["ann"]["median"],
        "snapshot_vs_ann": clean["snapshot_vs_ann"],
        "rpc_us": clean["us"]["rpc"]["median"],
        "rpc_recall_at_100": clean["recall_at_100"],
        "filtered_rpc_recall_at_100_min": min(cell["recall_at_100"] for cell in upper["filtered"]),
        "throughput_per_second": upper["throughput_per_second"],
        "load_p50_ms": upper["latency"]["p50_ms"],
        "load_p99_ms": upper["latency"]["p99_ms"],
        "rss_mib": upper["memory"]["rss_mib"],
        "build_wall_s": upper["build_wall_s"],
        "restart_to_ready_s": upper["restart_to_ready_s"],
        "publish_p99_ratio": publication["during"]["p99_ms"] / max(1e-9, publication["before"]["p99_ms"]),
        "publish_failed_calls": sum(load["failed"] for load in calls),
        "build_p99_ratio": publication["during_build"]["p99_ms"] / max(1e-9, upper["latency"]["p99_ms"]),
        "upsert_visible_p99_ms": visible["upsert"]["p99_ms"],
        "delete_visible_ms": visible["delete"]["p99_ms"],
        "deletes_found_after": visible["found_after_delete"],
    }


def targets(found: dict) -> dict:
    """Which targets are met."""
    judged = {name: {"found": found[name], "most": most, "met": found[name] <= most} for name, most in LIMITS.items()}
    for name in ("rpc_recall_at_100", "filtered_rpc_recall_at_100_min"):
        judged[name] = recall_target(found[name], RECALL_TARGET)
    return judged


def ladder_lines(upper: dict) -> list[str]:
    """What a search costs on each rung."""
    clean = upper["clean"]
    lines = [f"rung, k = 100, {upper['kind']}, nprobe {clean['nprobe']:<6} us median      min      max   of wheel   of ann"]
    below = {name: clean["us"][name]["median"] for name in ("wheel", "ann")}
    names = {"wheel": "wheel, re-scored, without Python", "wheel_flat": "wheel, plain lists, without Python", "ann": "ann", "snapshot": "snapshot", "rpc": "rpc (server process)"}
    lines += [rung_line(names[name], us, below) for name, us in clean["us"].items()]
    for cell in upper["written"]["cells"]:
        lines += [f"{cell['state']}: recall_at_100 {cell['recall_at_100']:.3f}"]
        lines += [rung_line(names[name], us, below) for name, us in cell["us"].items()]
    return lines


def rung_line(name: str, us: dict, below: dict) -> str:
    """One rung."""
    ratios = f"{us['median'] / max(1e-9, below['wheel']):10.2f} {us['median'] / max(1e-9, below['ann']):8.2f}"
    return f"{name:<40} {us['median']:9.0f} {us['min']:8.0f} {us['max']:8.0f} {ratios}"


def filter_lines(upper: dict) -> list[str]:
    """Filtered search through the rpc."""
    lines = ["rpc, filter matches    server us   wall us   recall_at_100   exhausted"]
    for cell in upper["filtered"]:
        lines.append(f"{100 * cell['share']:18.2f}% {cell['us']:12.0f} {cell['wall_us']:9.0f} {cell['recall_at_100']:15.3f} {cell['exhausted']:11}")
    return lines


def service_lines(upper: dict, found: dict) -> list[str]:
    """What the service does beside answering."""
    rows = [
        (f"calls a second, 2 processors{', shared with the client' if upper['shared_processors'] else ''}", f"{found['throughput_per_second']:.0f}"),
        (f"p50 / p99 ms at {upper['rate_per_second']:.0f} calls a second", f"{found['load_p50_ms']:.2f} / {found['load_p99_ms']:.2f}"),
        ("resident MiB, of it anonymous", f"{upper['memory']['rss_mib']:.0f}, {upper['memory']['anonymous_mib']:.0f}"),
        ("build s (wall), restart to ready s", f"{found['build_wall_s']:.1f}, {found['restart_to_ready_s']:.2f}"),
        (f"at {upper['rate_per_second_written']:.0f} calls a second: publish s; p99 ms before / during", publish_text(upper["publication"])),
        ("p99 ms during a build", f"{upper['publication']['during_build']['p99_ms']:.2f}"),
        ("upsert seen, p50 / p99 ms", f"{upper['visible']['upsert']['p50_ms']:.1f} / {upper['visible']['upsert']['p99_ms']:.1f}"),
        ("delete seen, p50 / p99 ms", f"{upper['visible']['delete']['p50_ms']:.1f} / {upper['visible']['delete']['p99_ms']:.1f}"),
    ]
    return [f"{name:<58} {value}" for name, value in rows]


def publish_text(publication: dict) -> str:
    """The time of a publication, and the latencies around it."""
    return f"{statistics.median(publication['publish_s']):.2f}; {publication['before']['p99_ms']:.2f} / {publication['during']['p99_ms']:.2f}"
