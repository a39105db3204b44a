"""Where things are: the home of one agent, and the names of its files.

``VIGIE_HOME`` (default ``$XDG_STATE_HOME/vigie``, else ``~/.local/state/vigie``)
holds everything; directories are 0700 and files 0600.
"""

from __future__ import annotations

import errno
import os

from vigie.errors import VigieError

__all__ = ["Home", "default_home", "sync_directory"]


def default_home(environ: "os._Environ[str] | dict[str, str] | None" = None) -> str:
    """Give the absolute path of the home that an environment names.

    An unset ``HOME``, as under ``env -i``, is looked up in the user database.

    >>> default_home({"VIGIE_HOME": "/tmp/x"})
    '/tmp/x'
    >>> default_home({"HOME": "/home/eve"})
    '/home/eve/.local/state/vigie'
    """
    env = os.environ if environ is None else environ
    chosen = env.get("VIGIE_HOME")
    if chosen:
        return os.path.abspath(os.path.expanduser(chosen))
    state = env.get("XDG_STATE_HOME")
    # The XDG specification says that a relative value is to be ignored.
    if state and os.path.isabs(state):
        return os.path.join(state, "vigie")
    home = env.get("HOME")
    if not home:
        import pwd

        home = pwd.getpwuid(os.getuid()).pw_dir
    return os.path.join(home, ".local", "state", "vigie")


def sync_directory(path: str) -> None:
    """Put the names in a directory on disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some file systems do not sync directories, and need not.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


class Home:
    """The paths of one home.

    Parameters
    ----------
    root:
        The directory; default :func:`default_home`.
    """

    def __init__(self, root: str | None = None) -> None:
        self.root = os.path.abspath(root) if root else default_home()
        join = os.path.join
        self.socket = join(self.root, "agent.sock")
        self.lock = join(self.root, "agent.lock")
        self.agent_log = join(self.root, "agent.log")
        self.secret = join(self.root, "secret")
        self.settings = join(self.root, "config.toml")
        self.declared = join(self.root, "declared")
        self.db = join(self.root, "db", "vigie.db")
        self.samples = join(self.root, "db", "samples.db")
        self.jobs = join(self.root, "jobs")
        self.backups = join(self.root, "backups")
        self.tmp = join(self.root, "tmp")
        self.workers = join(self.root, "workers")
        self.keeper_dir = join(self.root, "keeper")
        self.keeper_socket = join(self.keeper_dir, "sock")
        self.keeper_lock = join(self.keeper_dir, "lock")
        self.keeper_journal = join(self.keeper_dir, "journal")
        self.keeper_log = join(self.keeper_dir, "log")

    def __repr__(self) -> str:
        return f"Home({self.root!r})"

    def create(self) -> None:
        """Make the directories, each 0700.

        Raises
        ------
        VigieError
            When the home cannot be made or written, saying which directory and why.
        """
        db = os.path.dirname(self.db)
        for path in (self.root, db, self.jobs, self.backups, self.tmp, self.workers, self.keeper_dir):
            try:
                os.makedirs(path, mode=0o700, exist_ok=True)
                info = os.stat(path)
                if info.st_uid == os.geteuid() and info.st_mode & 0o077:
                    os.chmod(path, 0o700)
            except OSError as error:
                raise VigieError(
                    f"cannot use {path} as Vigie's home: {error.strerror}",
                    "set VIGIE_HOME to a directory that you can write",
                ) from None
        if not os.access(self.root, os.W_OK | os.X_OK):
            raise VigieError(
                f"cannot write in {self.root}",
                "set VIGIE_HOME to a directory that you can write",
            )

    def sync(self) -> None:
        """Put the names of the home's directories and files on disk, and its own name above it.

        Syncing a file does not do that: after a power cut it may be without a name.

        Raises
        ------
        VigieError
            When the disk fails.
        """
        path, above = self.root, ""
        # Somebody else's directory is not one that we made on the way.
        while path != above and os.stat(path).st_uid == os.geteuid():
            try:
                sync_directory(path)
            except PermissionError:
                break
            except OSError as error:
                raise VigieError(f"cannot put {path} on disk: {error.strerror}", "vigie doctor explains") from None
            path, above = os.path.dirname(path), path

    def job_dir(self, job: int) -> str:
        """Give the directory of a job's files; it exists only if a byte needed it.

        >>> Home("/h").job_dir(1042)
        '/h/jobs/042/1042'
        """
        return f"{self.jobs}/{job % 1000:03d}/{job}"

    def job_file(self, job: int, stream: str, attempt: int = 1) -> str:
        """Give the path of a stream (``out err records in result``) of one attempt.

        The first attempt's files have no number, so that the usual case reads well.

        >>> Home("/h").job_file(7, "out"), Home("/h").job_file(7, "out", 2)
        ('/h/jobs/007/7/out', '/h/jobs/007/7/out.2')
        """
        name = stream if attempt <= 1 else f"{stream}.{attempt}"
        return f"{self.job_dir(job)}/{name}"

    def worker_dir(self, worker: int) -> str:
        """Give the directory of a worker's page, journal and raw output."""
        return os.path.join(self.workers, str(worker))
