"""What limits a bench that falls short: one line each, by the bench's name.

A line is shown in RESULTS.md while its aim is missed, and left out once it is met.
"""

from __future__ import annotations

LIMITS: dict[str, str] = {
    "functions-huey": "for each job about 40 µs of a worker, which surrounds the function with its directory, "
    "environment, signals and a journal, and 25 of the agent, half of which is the row of the job and that of its "
    "attempt. Outcomes written to a shared mapping in place of a file would spare the worker a tenth.",
    "functions-celery": "as above; Celery keeps neither jobs nor results on disk here.",
    "function-one": "two commits that wait for the disk, and five wake-ups of another process (client, agent, worker "
    "and back), of about 0.1 ms each on a virtual machine. huey here neither syncs nor wakes: it polls.",
    "start": "Python's start and our imports, most of it reading files, then one request and the agent's commit: "
    "2.6 x while disk and machine are quiet, more while they are not.",
    "submits-one": "one commit that waits for the disk, two wake-ups, and about 0.3 ms of Python on either side.",
    "submits-eight": "client and agent take about 0.3 ms of Python each for a submit, on two cores together; the "
    "commits are shared. A task that is named instead of sent, and rows of several requests inserted by one "
    "statement, would cut both.",
    "commands": "one commit for each command, since two slots give two ends at a time; then spawn, journal and reap in "
    "the keeper. Claiming ahead of a free slot would hide the commit.",
    "output": "the command writes into the file itself: what differs is the disk from round to round.",
    "rest-memory": "what a burst of jobs left in Python's own memory.",
    "rest-anonymous": "what a burst of jobs left in Python's own memory.",
    "item-command": "spawn, journal, two reports and two commits: a hundredth of 379 ms is 3.8 ms.",
    "item-function": "two commits and five wake-ups: a hundredth of 119 ms is 1.2 ms.",
    "item-batch": "a hundredth of 40 ms is 0.4 ms, with each result fetched by a request of its own.",
}
