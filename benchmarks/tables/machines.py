"""The machine of a file, and when each job ran on it, as Markdown tables."""

from typing import Any

from benchmarks.tables.markdown import table
from benchmarks.tables.rows import groups, was_busy

FACTS = {
    "device_kind": "device",
    "device_count": "devices",
    "driver": "driver",
    "cpu": "CPU",
    "isa": "instruction sets",
    "cores": "cores",
    "threads": "threads",
    "memory_gib": "memory, GiB",
    "system": "system",
    "python": "Python",
    "versions": "versions",
    "flags": "flags",
}


def environment_table(file: dict[str, dict[str, Any]]) -> str:
    """The machine and versions, common to all jobs of a file; where they differ, for which."""
    facts = {job: _facts(result["environment"]) for job, result in file.items()}
    for job, result in file.items():
        for group in groups(result):
            for row in group.rows.values():
                facts[job]["versions"] |= row.get("versions", {})
    merged = dict(next(iter(facts.values())))
    for name in merged:
        values = {job: _text(of.get(name, "")) for job, of in facts.items()}
        if name == "versions":
            union = {k: v for of in facts.values() for k, v in of["versions"].items()}
            values = {"": _text(union)}
        several = len(set(values.values())) > 1
        parts = [f"{job}: {value}" for job, value in values.items()] if several else values.values()
        merged[name] = "; ".join(dict.fromkeys(parts))
    return table(["environment", ""], merged.items()).replace("|---:|", "|---|")


def runs_table(file: dict[str, dict[str, Any]]) -> str:
    """When each job ran, of which commit, how busy the machine was, what it could do then.

    A load in bold before the run: other work may have slowed it. The run itself is in the other.
    """
    lines = []
    for job, result in file.items():
        facts = result["environment"]
        peaks = next((group.peaks for group in groups(result) if group.peaks), {})
        commit = facts.get("commit", "") + " + changes" * bool(facts.get("uncommitted_changes"))
        before, after = facts.get("load_before"), facts.get("load_after", "")
        loads = [f"**{before}**" if was_busy(facts) else before or "", after]
        peak = [peaks.get(name) or "" for name in ("gemm_gflops", "copy_gb_per_s")]
        lines.append([f"`{job}`", facts.get("date", ""), commit, *loads, *peak])
    headings = ["run", "date", "commit", "load before", "load after", "GEMM GFLOP/s", "copy GB/s"]
    return table(headings, lines)


def _facts(environment: dict[str, Any]) -> dict[str, Any]:
    facts = {heading: environment[k] for k, heading in FACTS.items() if environment.get(k)}
    return facts | {"versions": dict(environment.get("versions", {}))}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in sorted(value.items()) if v != "not installed")
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
