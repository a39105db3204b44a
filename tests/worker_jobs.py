"""Functions that the tests have a worker run. They import what they need themselves."""

from __future__ import annotations

import os
import sys
import time


def nothing():
    pass


def add(a, b=0):
    return a + b


def echo(*args, **kwargs):
    return [list(args), kwargs]


def fail(text="no"):
    raise ValueError(text)


class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__("needs two")


def fail_unpicklable():
    raise Unpicklable(1, 2)


def fail_with_cause():
    try:
        {}["k"]
    except KeyError as error:
        raise RuntimeError("outer") from error


def exit_with(code):
    sys.exit(code)


def hard_exit(code):
    os._exit(code)


def kill_self(number):
    os.kill(os.getpid(), number)
    time.sleep(30)


def raise_base(name):
    raise {"KeyboardInterrupt": KeyboardInterrupt, "GeneratorExit": GeneratorExit}[name]


def count(to):
    for i in range(to):
        yield {"i": i}
    return "counted"


def yield_odd():
    yield (1, 2)
    yield b"\x00"


async def later(value):
    import asyncio

    await asyncio.sleep(0)
    return value


async def later_many():
    yield 1
    yield 2


def everything_said():
    import logging
    import warnings

    print("one")
    print("two", file=sys.stderr)
    warnings.warn("three")
    log = logging.getLogger("shop")
    log.setLevel("DEBUG")
    log.error("four")
    log.debug("five")
    yield 6
    os.write(1, b"seven\n")
    print("eight")
    os.system("echo nine")
    print("ten", end="")
    print("eleven", file=sys.stderr, end="")
    sys.stdout.buffer.write(b"\xfftwelve")
    print("thirteen", "and", "more")


def warn_again():
    import warnings

    warnings.warn("again", UserWarning)


def configured_logging():
    import logging

    logging.basicConfig(level=logging.INFO, format="<%(message)s>")
    logging.info("shown")
    logging.debug("hidden")


def own_handler():
    import logging

    handler = logging.StreamHandler()
    log = logging.getLogger()
    log.addHandler(handler)
    try:
        logging.getLogger("x").warning("once")
    finally:
        log.removeHandler(handler)


def say(text, stream="stdout"):
    getattr(sys, stream).write(text)


def say_bytes(data):
    sys.stdout.buffer.write(data)


def say_many(lines):
    for i in range(lines):
        print("line", i)


def say_and_wait(path):
    """Say something without a newline, then wait for a file."""
    sys.stdout.write("half a line")
    wait_for(path)
    return "went on"


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.001)
    return path


def touch_and_wait(touch, path):
    open(touch, "w").close()
    return wait_for(path)


def touch_and_return(touch):
    open(touch, "a").close()


def append_line(path, text):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{text}\n".encode())
    os.close(fd)


def in_threads(threads, lines):
    import threading

    def work(name):
        for i in range(lines):
            print(f"<{name}:{i}>")

    running = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def surroundings():
    import signal

    mask = os.umask(0)
    os.umask(mask)
    return {
        "cwd": os.getcwd(),
        "env": dict(os.environ),
        "umask": mask,
        "argv": sys.argv,
        "path": sys.path,
        "usr1": signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL,
        "alarm": signal.getitimer(signal.ITIMER_REAL)[0],
        "stdout": type(sys.stdout).__name__,
        "stderr": type(sys.stderr).__name__,
        "stdin": sys.stdin.read(),
        "fds": [os.fstat(fd).st_ino for fd in (1, 2)],
        "child": os.popen("echo $PWD $VIGIE_JOB $VIGIE_ATTEMPT $ADDED").read(),
    }


def make_a_mess():
    import io
    import signal

    os.chdir("/tmp")
    os.environ["ADDED"] = "1"
    os.environ["VIGIE_JOB"] = "nonsense"
    os.environ.pop("PATH", None)
    os.umask(0o777)
    sys.argv.append("x")
    sys.path.insert(0, "/nonsense")
    sys.path = ["/other"]
    signal.signal(signal.SIGUSR1, lambda *a: None)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    signal.setitimer(signal.ITIMER_REAL, 60)
    sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8")
    sys.stdout.write("wrapped")
    sys.stderr = None
    sys.stdin.close()
    os.close(1)
    os.dup2(os.open("/dev/null", os.O_WRONLY), 2)


def environment_replaced():
    os.environ = {"ONLY": "1"}


def names():
    """Which of our module names a project may use itself."""
    import errors  # noqa: F401
    import model  # noqa: F401
    import records

    main = sys.modules["__main__"]
    return [records.WHOSE, getattr(main, "__file__", None), sorted(n for n in vars(main) if n[0] != "_")]


def leave_child(own_session):
    import subprocess

    child = subprocess.Popen(["sleep", "1000"], start_new_session=own_session)
    return child.pid


def leave_ending_child():
    """A child whose output ends a moment before it does itself."""
    os.popen("echo said; exec >&-; sleep 0.01").read()


def leave_stubborn_grandchild():
    """A child that forks twice, ignores SIGTERM and has a session of its own."""
    import subprocess

    script = "trap '' TERM; echo $$; exec >/dev/null 2>&1; while :; do sleep 1; done"
    child = subprocess.Popen(
        ["sh", "-c", f'setsid sh -c "{script}" & wait'.replace("$$", "\\$\\$")], stdout=subprocess.PIPE
    )
    pid = int(child.stdout.readline())
    child.kill()
    child.wait()
    return pid


def leave_zombie():
    import subprocess

    subprocess.Popen(["true"])


def processes(method):
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        return list(pool.map(shout, ["a", "b", "c"]))


def shout(text):
    print("child says", text)
    return text.upper()


def fork_and_return():
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return pid == 0


def fork_and_raise():
    pid = os.fork()
    if not pid:
        raise ValueError("in the child")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def interrupted():
    import signal

    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        return "caught"
    return "nothing"


def own_signal():
    import signal

    seen = []
    signal.signal(signalnum=signal.SIGTERM, handler=lambda number, frame: seen.append(number))
    signal.raise_signal(signal.SIGTERM)
    return seen == [signal.SIGTERM]


def print_from_handler(times):
    """Print inside a signal handler that interrupts printing."""
    import signal

    def handler(number, frame):
        print("handler")

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    for i in range(times):
        print("body", i)
    signal.setitimer(signal.ITIMER_REAL, 0)


kept = []


def grow(size):
    kept.append(b"\x01" * size)


def big(size):
    return "x" * size


def big_pickle(size):
    return b"x" * size


def unpicklable_result():
    import threading

    return {"a": [1, threading.Lock()]}


def library_record():
    """What vigie's own library does inside a job."""
    sys.modules["_vigie"].record("progress", data={"done": 1, "total": 2})


class Tool:
    @classmethod
    def make(cls, x):
        return x * 2

    class Inner:
        @staticmethod
        def deep(x):
            return x * 3


def decorated(x):
    return x + 1000


class Task:
    """Stands where vigie.task puts its wrapper."""

    def __init__(self, function):
        self.__vigie_function__ = function

    def __call__(self, *args):
        raise AssertionError("the wrapper must not be called in a worker")


wrapped = Task(decorated)
a_number = 5
