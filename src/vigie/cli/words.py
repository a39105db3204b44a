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
    "when": """\
When a schedule comes: a plain phrase or a cron line, or several.
  daily 22:00                 weekdays 08:00,12:00       weekly mon,thu 08:00
  monthly 1,15 06:00          monthly last fri 18:00     yearly dec 24 18:00
  hourly :15                  every 5m                   every 2 weeks on mon 08:00
  every 5m after end          in 20m                     on 2026-12-24 18:00
  daily 08:00 every 10m for 2h
  at boot                     at login                   on idle 10m
  on file in/*.csv created    on job NAME failed         on record NAME level error
  */5 9-17 * * mon-fri        0 18 L * *                 @daily
  --calendar 'Mon..Fri *-*-* 08:00'       an expression of systemd
  --rrule 'FREQ=DAILY;BYHOUR=8'           a rule of RFC 5545
vigie schedule next WHEN says how one is read, and when it comes.""",
    "firing": """\
One planned instant of a schedule, and what became of it (vigie schedule history NAME).
  ran         it was started within a second
  late        it was started later
  caught-up   it was missed, and started afterwards
  skipped     it was not started, because
    overlap     an earlier run had not ended
    condition   a condition did not hold
    blackout    it fell into a blackout window
    too-late    it would have started too late
    asleep      the machine slept
    down        no agent was running
    paused      the schedule was paused
    limit       the schedule has had all its runs""",
    "policy": """\
What a schedule heeds besides its time (options of vigie schedule add and edit).
  overlap       an earlier run goes on: skip, queue-one, queue-all=N, parallel, replace
  catch-up      instants missed in a downtime: none, latest, all=N
  lateness      never start later than this
  jitter        spread the starts over so long
  if, if-wait   what must hold, and how long to wait for it
  blackout      when nothing starts: 22:00-06:00, sat,sun, mon-fri 09:00-17:00
  max-runs      so many runs, and it is done
  delete-after  so long after its end it is removed
  history       records that are kept
Paused (vigie schedule pause NAME), it starts nothing.""",
    "schedule": "Triggers, policies and a task: runs the task at set times, or when something happens.",
    "trigger": "What makes a schedule come: times, an interval, or something that happens (vigie help when).",
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
