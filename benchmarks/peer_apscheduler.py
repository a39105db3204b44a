"""The peer's side: APScheduler 3 on SQLite by SQLAlchemy, ten threads.

Run in the peers' environment: ``peer_apscheduler.py add DATABASE COUNT`` prints how many
schedules a second it adds, ``peer_apscheduler.py lags DATABASE RATE SECONDS`` the lag of
each firing in ms. Its database has a write-ahead log and ``synchronous=NORMAL``: no commit
waits for the disk. A job is handed to a thread first, and what becomes of its schedule is
written after.
"""

import os
import sys
import time
from datetime import UTC, datetime

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy import create_engine, event

NOTHING = "peer_apscheduler:nothing"
#: (when it was planned, how late it began), in seconds.
FIRED = []


def nothing(first):
    now = time.time()
    # Of a firing that is more than a second late this says too little.
    lag = (now - first) % 1
    FIRED.append((now - lag, lag))


def scheduler(path):
    engine = create_engine("sqlite:///" + path)

    @event.listens_for(engine, "connect")
    def set_up(connection, record):
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")

    return BackgroundScheduler(
        jobstores={"default": SQLAlchemyJobStore(engine=engine)},
        executors={"default": ThreadPoolExecutor(10)},
        job_defaults={"misfire_grace_time": None, "max_instances": 1000},
        timezone=UTC,
    )


def add(found, count):
    found.add_job(NOTHING, "cron", hour=3, args=[0])  # connected, everything loaded
    began = time.perf_counter()
    for i in range(count):
        found.add_job(NOTHING, "cron", hour=i // 3600 % 24, minute=i // 60 % 60, second=i % 60, id=str(i), args=[0])
    print(count / (time.perf_counter() - began))


def lags(found, rate, seconds):
    import peer_apscheduler

    begin = time.time() + rate / 1000 + 1
    for i in range(rate):
        at = begin + i / rate
        first = datetime.fromtimestamp(at, UTC)
        found.add_job(NOTHING, "interval", seconds=1, start_date=first, args=[at])
    found.resume()
    # The first two seconds warm it up.
    begin, end = begin + 2, begin + 2 + seconds
    time.sleep(max(0.0, end + 0.5 - time.time()))
    for planned, lag in list(peer_apscheduler.FIRED):
        if begin <= planned < end:
            print(lag * 1000)


def main():
    what, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    found = scheduler(path)
    found.start(paused=True)
    if what == "add":
        add(found, count)
    else:
        lags(found, count, float(sys.argv[4]))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
