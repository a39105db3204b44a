"""A service that watches processor and memory, and leaves an alert file while one is over its limit.

    vigie service add machine -- python3 watch_machine.py alerts --cpu 90 --memory 90

Each look is a line of its log; `alerts/machine.txt` is there while something is over its limit, and says what.
"""

import argparse
import os
import time
from pathlib import Path


def processor() -> tuple[int, int]:
    """Give the ticks that the processors were busy, and all of them."""
    with open("/proc/stat", encoding="ascii") as file:
        ticks = [int(word) for word in file.readline().split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def memory() -> float:
    """Give the percent of memory that is in use."""
    with open("/proc/meminfo", encoding="ascii") as file:
        found = {line.split(":")[0]: int(line.split()[1]) for line in file}
    return 100 * (1 - found["MemAvailable"] / found["MemTotal"])


def main() -> None:
    """Look for ever."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("directory", type=Path, help="where the alert file goes")
    parser.add_argument("--cpu", type=float, default=90, help="percent; default 90")
    parser.add_argument("--memory", type=float, default=90, help="percent; default 90")
    parser.add_argument("--every", type=float, default=10, help="seconds between two looks; default 10")
    args = parser.parse_args()
    args.directory.mkdir(parents=True, exist_ok=True)
    alert = args.directory / "machine.txt"
    busy, whole = processor()
    while True:
        time.sleep(args.every)
        busy_now, whole_now = processor()
        cpu = 100 * (busy_now - busy) / max(1, whole_now - whole)
        busy, whole = busy_now, whole_now
        used = memory()
        over = [f"{name} {value:.0f} % (limit {limit:.0f} %)" for name, value, limit in
                (("cpu", cpu, args.cpu), ("memory", used, args.memory)) if value > limit]  # fmt: skip
        print(
            f"cpu {cpu:.0f} %, memory {used:.0f} %{', over its limit: ' + ', '.join(over) if over else ''}", flush=True
        )
        if over:
            fresh = alert.with_suffix(".new")
            fresh.write_text(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {'; '.join(over)}\n", encoding="utf-8")
            os.replace(fresh, alert)
        else:
            alert.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
