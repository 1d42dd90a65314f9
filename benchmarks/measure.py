"""What every benchmark needs: CPU seconds of a call, the machine, and a result file."""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


def cpu_seconds(call: Callable[[], object]) -> float:
    """CPU seconds (user and system, all threads) that one call takes."""
    before = time.process_time()
    call()
    return time.process_time() - before


def ratio(ours: Callable[[], object], floor: Callable[[], object], rounds: int = 5) -> dict[str, float]:
    """Both in turn, `rounds` times after one warm-up: medians, and floor / ours pair by pair (1 is the floor itself)."""
    ours()
    floor()
    pairs = [(cpu_seconds(ours), cpu_seconds(floor)) for _ in range(rounds)]
    return {
        "ours_cpu_s": statistics.median(mine for mine, _ in pairs),
        "floor_cpu_s": statistics.median(theirs for _, theirs in pairs),
        "ratio": statistics.median(theirs / mine for mine, theirs in pairs),
        "rounds": rounds,
    }


def peak_mb() -> float:
    """The highest resident memory of this process so far, in MB."""
    # ru_maxrss is inherited through fork and exec, so a child would report its parent's peak
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def save(name: str, results: dict[str, Any]) -> None:
    """Write benchmarks/results/NAME.json and print it."""
    record = {
        "benchmark": name,
        "command": " ".join(["python", *[Path(part).name if "/" in part else part for part in sys.argv]]),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": {
            "cores": os.cpu_count(),
            "system": platform.system(),
            "python": platform.python_version(),
            "cpu": _cpu(),
        },
        "results": results,
    }
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(record, indent=2)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    print(text)


def with_tables(page: str, sections: Mapping[str, str], script: str) -> str:
    """A page with every section between its markers made anew. Raises ValueError where markers are missing."""
    for name, text in sections.items():
        pattern = re.compile(rf"(<!-- {name}: made by {script} -->\n).*?(<!-- end -->)", re.DOTALL)
        if len(pattern.findall(page)) != 1:
            raise ValueError(f"the page lacks the markers of {name}, or has them twice")
        page = pattern.sub(lambda match, text=text: f"{match[1]}{text}\n{match[2]}", page)
    return page


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
