"""The words of ``vigie help WORD`` that are not verbs: the glossary, states, and forms of values."""

from __future__ import annotations

__all__ = ["WORDS"]

#: Topics first, then the glossary. The first line of each says it shortly.
WORDS: dict[str, str] = {
    "states": """\
The states of a job.
  queued      lacks only a slot, a concurrency key or an open queue
  blocked     waits for other jobs, or for a time (a delayed start, a retry's back-off)
  running     under way
  suspended   frozen with all its processes; its timeout stands still
  completed   ended well
  failed      ended badly, for a reason (vigie help reasons)
  stopped     ended because somebody asked
  lost        ended, and nobody can know how""",
    "reasons": """\
Why a job failed.
  exit        an exit code other than 0
  signal      a signal ended it
  timeout     it took longer than --timeout
  exception   its function raised one
  spawn       it could not be started: no such program or directory, not executable
  oom         the machine had no memory left for it
  dependency  a job that had to complete before it did not""",
    "exit-codes": """\
What the exit code of vigie says.
  0    fine
  1    the work failed, or something was refused
  2    wrong usage
  3    not found: no job, queue or other thing of that name
  4    the agent cannot be reached or started
  124  the time is up
  130  interrupted
vigie run ends as the work ends: its own code; 128+N when signal N ended it; 124
after its timeout; 126 not executable; 127 not found; 125 for Vigie's own errors.""",
    "values": """\
How durations, sizes, rates and times are written.
  durations   90s, 5m, 1h30m, 2d, 250ms, PT1H30M; a bare number is seconds
  sizes       10 GiB, 500 MB, 1024
  rates       10/s, 600/m
  times       2026-11-23T14:00, 2026-11-23T14:00+01:00, or 14:00 (local, the next);
              of the past (--since) 14:00 is the last, and 2h or 30m are that long ago""",
    "sel": """\
Which jobs a verb is about: JOB…, or a FILTER, or --all.
  JOB      id, name (its newest), last, or - (ids on stdin)
  FILTER   --state S --name GLOB --tag T --queue Q --since T
  --all    all jobs that the verb can do something to: stop, those that have not ended;
           resume, the suspended ones (vigie VERB -h)""",
    "what": """\
What start and run can run.
  [--] CMD ARG…              a command; behind -- always a command
  script.py|.sh|.ps1 ARG…    a script, by its extension, when the file exists
  -f MODULE:FUNCTION         a Python function; its arguments by --args JSON
  --shell LINE               a line for /bin/sh""",
    "environment": """\
The surroundings of a job: its caller's, unless said otherwise.
A job started by hand gets its caller's directory, umask and environment
(--env-none: none of it), then --env-file, then --env. Python scripts and
functions run on --python, else $VIRTUAL_ENV, else the nearest .venv upwards, else
Vigie's own. PYTHONUNBUFFERED=1 is added unless it is set. --dry-run prints it all.
Vigie itself heeds VIGIE_HOME (where all is kept), VIGIE_DEBUG=1 and NO_COLOR.""",
    "task": "What to run and how: argv, shell line, script file or Python function; directory, environment, limits.",
    "job": "One request to run a task once, kept by the agent. Its id is never used twice.",
    "attempt": "One execution of a job; retries add attempts.",
    "context": "Directory, environment, umask, interpreter, import path: stored once for all jobs that share them.",
    "record": "One entry in a job's stream: output, error, warning, log, progress …, with a number and a time.",
    "queue": "Hands out its jobs, first in first out within a priority, as far as its slots and its rate allow.",
    "slot": "Room for one running job in a queue. default has as many as there are cores.",
    "concurrency": "A key that jobs share: at most N of those that name it run at once, in whatever queues.",
    "event": "One line of the durable timeline: every change of state, and every write by a person.",
    "agent": "The per-user background process that decides, and the only writer of the store. It starts by itself.",
    "keeper": "The small process that is the parent of every command and worker; it survives the agent.",
    "worker": "A warm Python process that runs function jobs.",
    "reader": "A name under which receive remembers what it has shown; --reader NAME gives one of your own.",
    "grace": "The time between SIGTERM and SIGKILL when a job is ended.",
}
