"""What limits a bench that falls short: one line each, by the bench's name.

A line is shown in RESULTS.md while its aim is missed, and left out once it is met.
"""

from __future__ import annotations

LIMITS: dict[str, str] = {
    "functions-huey": "for each job about 20 µs of a worker, which surrounds the function with its directory, "
    "environment, signals and a journal, and 16 of the agent, half of which is the row of the job and that of its "
    "attempt. Outcomes written to a shared mapping in place of a file would spare the worker a tenth.",
    "functions-celery": "as above; Celery keeps neither jobs nor results on disk here.",
    "function-one": "two commits that wait for the disk one after the other, four wake-ups of another process on the "
    "way (client, agent, worker and back), and 0.8 ms of processor time in the three of them. huey neither syncs nor "
    "wakes: it polls, in two minds, for 0.7 or for 1.3 ms; we take 0.8 to 1.2.",
    "start": "Python's start and our imports, most of it reading files, then one request and the agent's commit: "
    "2.6 x while disk and machine are quiet, more while they are not.",
    "submits-one": "one commit that waits for the disk, two wake-ups, and about 0.2 ms of Python on either side.",
    "submits-eight": "client and agent take about 0.1 ms of processor time each for a submit, on two cores together, "
    "and a third of a commit, for which the agent waits: from 5,000 to 6,500/s, as the machine's minutes go "
    "(`python3 -c pass` takes 17 ms in some, and 11 in others).",
    "commands": "agent, keeper and the command itself take about 0.5, 0.4 and 0.6 ms of processor time, on two cores "
    "together, which are full: the agent's half is the rows of the job and its attempt and two lines of the timeline.",
    "output": "the command writes into the file itself: what differs is the disk from round to round.",
    "rest-memory": "what a burst of jobs left in Python's own memory.",
    "rest-anonymous": "what a burst of jobs left in Python's own memory.",
    "item-command": "spawn, journal, two reports and two commits: a hundredth of 379 ms is 3.8 ms.",
    "item-function": "two commits and five wake-ups: a hundredth of 119 ms is 1.19 ms.",
    "item-batch": "a hundredth of 40 ms is 0.4 ms, with each result fetched by a request of its own.",
    "shellmaps-true": "Python's start, 40 ms of the whole, and 75 µs of our processor time a command beyond what "
    "starting one takes, while both cores are full.",
    "shellmaps-many": "Python's start, 40 ms of 700: a command costs as much of our processor time as it does of "
    "xargs'.",
    "shellmaps-one": "Python's start, our imports, and the command itself, a few ms of each.",
    "maps-busy": "both are within a tenth of two forks to which nothing is sent; joblib's workers run already, ours "
    "take 40 to 60 ms to start, a twentieth of the whole.",
    "maps-busy-speedup": "two forks to which nothing is sent take as long, or nearly: the two cores are not twice as "
    "fast as one in all of the machine's minutes. Of the rest, our workers' start takes 30 to 60 ms, and the caller 2 "
    "to 3 µs an item of the same two cores.",
    "maps-trivial": "an item takes about 1.4 µs of the caller's processor time (its part of a batch, its record, the "
    "pickle of its value) and 2.4 of a worker's (two looks at the clock, the page, and the record by which its value "
    "outlives the worker): 1.9 µs with both cores full, and 0.3 for the workers' start. Chunks by hand need none of "
    "it.",
    "maps-trivial-joblib": "each item is timed and kept by itself; joblib sends a batch as one list.",
    "maps-trivial-mpire": "each item is timed and kept by itself; mpire sends a chunk as one list.",
    "maps-uneven": "the workers' start, and items in a batch behind a dear one until they are taken back.",
    "maps-cold": "a worker is a Python of its own, run after the caller's: two starts and two sets of imports, one "
    "after the other; an executor forks the caller.",
    "maps-threads": "a hundred bare threads that each wait ten times take 9 ms more than the ideal, 8 of them until "
    "the last has started: Python starts a thread by waiting until it has begun. We take 3 ms on top of that, the "
    "run's first item until the hundredth among them.",
    "maps-array": "an array goes into the pickle of a batch, and that through a socket in pieces: it is copied at each "
    "step, looked through once, and made anew in the worker for each batch.",
    "maps-memory-caller": "the items and values between source and consumer, and Python itself.",
    "maps-memory-worker": "two batches, the page with its journal of a megabyte, and Python itself.",
    "maps-memory-rise": "batches grow until they are 20,000 items, while the items turn out to be cheap.",
    "pools-trip": "two wake-ups of another process, and the Python on either side; what a wake-up costs varies by "
    "the machine's minutes: from 108 µs in all, and 125 of the executor's, to twice both.",
    "schedules-lag": "two commits that wait for the disk: that of the round before, and its own with the job in it; a "
    "thousand a second leave no round empty.",
    "schedules-alone": "one commit that waits for the disk, with the job in it, and two wake-ups of another process.",
    "schedules-herd": "23 µs of the agent's processor time for each: 8 in SQLite (the firing, the job with its "
    "indexes, the schedule's count), 3 for the verdict, and 12 for the jobs that are handed out and end meanwhile; a "
    "commit for each 500.",
    "schedules-herd-submit": "a submit waits for the transaction before its own: 500 firings, and what came in "
    "meanwhile of jobs that ended.",
    "schedules-apply": "Python's reading of the file and of each schedule's table in it, 100 µs each, on two cores.",
    "services-restart": "two commits that wait for the disk (the end with the life that follows, and that it has "
    "begun), the keeper's reap and spawn, and the shell that writes the byte.",
    "services-up": "the start of the program and of the agent is 0.3 s of it; each service then costs 2 ms of the "
    "agent (its rows, its job, their events) and 1 ms of the keeper (its spawn).",
    "services-rest-memory": "the agent's own 30 MB and the keeper's 13; each service 7 kB of the former and 4 of the "
    "latter.",
    "services-loops": "each life is a job with its rows, its events and its files: about 1.5 ms of the agent, and in "
    "the first seconds each of the hundred has seven of them; later one a minute.",
    "services-loops-others": "a restart waits for the transaction that is under way.",
    "services-logs": "to release the head of a file takes its lock, for which a write waits 1 to 2 ms in each 5 MB.",
    "services-logs-disk": "what a program writes while the head is released.",
}
