"""Who gives instants: ``triggers_side.py vigie|croniter|cronsim``, each in its own environment.

For each line ``KIND COUNT ZONE EXPRESSION`` it prints the seconds that reading the
expression and giving its next instants take, and the last of them (s UTC).
"""

import sys
import time
from datetime import datetime
from itertools import islice
from zoneinfo import ZoneInfo

#: 2026-01-01 00:00 UTC.
START = 1_767_225_600


def vigie():
    from vigie import zones
    from vigie.triggers.calendar import Calendar
    from vigie.triggers.cron import Cron

    def instants(kind, count, zone, text):
        where = zones.load(zone)
        found = Cron.parse(text, where) if kind == "cron" else Calendar.parse(text, where, zones.load)
        return list(islice(found.after(START * 1_000_000), count))

    return instants, lambda found: found // 1_000_000


def croniter():
    from croniter import croniter as peer

    def instants(kind, count, zone, text):
        found = peer(text, datetime.fromtimestamp(START, ZoneInfo(zone)))
        return [found.get_next() for _ in range(count)]

    return instants, int


def cronsim():
    from cronsim import CronSim

    def instants(kind, count, zone, text):
        return list(islice(CronSim(text, datetime.fromtimestamp(START, ZoneInfo(zone))), count))

    return instants, lambda found: int(found.timestamp())


def main():
    instants, seconds = {"vigie": vigie, "croniter": croniter, "cronsim": cronsim}[sys.argv[1]]()
    for line in sys.stdin:
        kind, count, zone, text = line.rstrip("\n").split(" ", 3)
        began = time.perf_counter()
        found = instants(kind, int(count), zone, text)
        took = time.perf_counter() - began
        assert len(found) == int(count)
        print(took, seconds(found[-1]), flush=True)


if __name__ == "__main__":
    main()
