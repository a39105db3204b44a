"""Write a page that says how full the disks are.

    python disk_report.py [-o FILE] [--least PERCENT] [PATH…]

Every morning:

    vigie schedule add disk-report "daily 07:00" --script disk_report.py

In a file it is [schedule.disk-report] of vigie.toml. The page is ~/disk.html unless FILE says otherwise. Without PATH
it is about all file systems that are on a disk. The exit code is 1 when less than PERCENT (15) of one is free, so
that another schedule can follow: --on-event "job disk-report failed".
"""

from __future__ import annotations

import argparse
import html
import os
import re
import socket
import sys
import time
from dataclasses import dataclass

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Disks of {host}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 46rem; padding: 0 1rem; color: #222 }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ padding: .4rem .6rem; text-align: left; border-bottom: 1px solid #ddd }}
th.n, td.n {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }}
.bar {{ background: #e4e8ec; width: 10rem; height: .9rem; border-radius: .2rem; overflow: hidden }}
.bar div {{ background: #3572b0; height: 100% }}
.low {{ background: #fff0f0 }}
.low .bar div {{ background: #c02b2b }}
.low td:last-child {{ color: #a01818; font-weight: 600 }}
</style>
<h1>Disks of {host}</h1>
<p>{summary}</p>
<table>
<tr><th>File system</th><th class="n">Size</th><th class="n">Used</th><th></th><th class="n">Free</th></tr>
{rows}
</table>
<p><small>{time}</small></p>
</html>
"""
ROW = """\
<tr{low}><td>{path}</td><td class="n">{size}</td><td class="n">{used}</td>\
<td><div class="bar"><div style="width: {percent:.1f}%"></div></div></td><td class="n">{free} ({left:.0f}%)</td></tr>"""

#: File systems that are in memory, or no place for files of their own.
NO_DISKS = {"tmpfs", "devtmpfs", "ramfs", "squashfs", "iso9660", "efivarfs"}


@dataclass
class Disk:
    """A file system, with its sizes in bytes."""

    path: str
    size: int
    used: int
    free: int

    @property
    def left(self) -> float:
        """Percent of what an ordinary user can use that is free, as df has it."""
        return 100 * self.free / (self.used + self.free)


def paths() -> list[str]:
    """Give where disks are mounted, each file system once."""
    found: dict[int, str] = {}
    with open("/proc/self/mounts", "rb") as file:
        for line in file:
            _, place, kind = line.split(b" ")[:3]
            # A space in a path is written \040.
            path = os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), place))
            if kind.decode() not in NO_DISKS and os.path.isdir(path):
                found.setdefault(os.stat(path).st_dev, path)
    return list(found.values())


def look(path: str) -> Disk | None:
    """Give the file system of a path; None for one without blocks, such as /proc."""
    found = os.statvfs(path)
    if not found.f_blocks:
        return None
    unit = found.f_frsize
    return Disk(path, found.f_blocks * unit, (found.f_blocks - found.f_bfree) * unit, found.f_bavail * unit)


def shown(size: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.1f} {unit}" if size < 10 and unit != "B" else f"{size:.0f} {unit}"


def page(disks: list[Disk], least: float) -> str:
    rows = [
        ROW.format(
            low=' class="low"' if disk.left < least else "", path=plain(disk.path), size=shown(disk.size),
            used=shown(disk.used), percent=100 - disk.left, free=shown(disk.free), left=disk.left,
        )
        for disk in disks
    ]  # fmt: skip
    low = sum(disk.left < least for disk in disks)
    summary = f"Less than {least:g}% is free on {low} of {len(disks)}." if low else f"All have {least:g}% or more free."
    when = time.strftime("%A, %d %B %Y, %H:%M %Z")
    return PAGE.format(host=plain(socket.gethostname()), summary=summary, rows="\n".join(rows), time=when)


def plain(text: str) -> str:
    return html.escape(os.fsencode(text).decode("utf-8", "replace"))


def main() -> int:
    parser = argparse.ArgumentParser(description="Write a page that says how full the disks are.")
    parser.add_argument("paths", nargs="*", metavar="PATH")
    parser.add_argument("-o", dest="output", default="~/disk.html", metavar="FILE", help="default ~/disk.html")
    parser.add_argument("--least", type=float, default=15, metavar="PERCENT", help="that must be free; default 15")
    args = parser.parse_args()
    disks = [disk for disk in map(look, args.paths or paths()) if disk is not None]
    output = os.path.expanduser(args.output)
    # Whoever looks meanwhile sees the page of yesterday, and never half of one.
    with open(output + ".part", "w", encoding="utf-8") as file:
        file.write(page(disks, args.least))
    os.replace(output + ".part", output)
    print(f"{output}: {len(disks)} file system{'s' * (len(disks) != 1)}")
    low = [disk for disk in disks if disk.left < args.least]
    for disk in low:
        print(f"{disk.path!r} has {disk.left:.0f}% free, {shown(disk.free)}", file=sys.stderr)
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())
