"""The project around the code: what its scripts, locks, layers and lists promise."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src" / "vigie"

with open(ROOT / "pyproject.toml", "rb") as _file:
    PROJECT = tomllib.load(_file)


def sh(*command, **how):
    return subprocess.run(command, capture_output=True, text=True, check=False, **how)


# Sizes ----------------------------------------------------------------------------


def sizes(tmp_path, text):
    (tmp_path / "m.py").write_text(text)
    return sh(sys.executable, ROOT / "tools" / "check_sizes.py", tmp_path)


def test_sizes_at_the_limits_are_fine(tmp_path):
    long_docstring = '    """' + "x\n" * 200 + '"""\n'
    function = "def f():\n" + long_docstring + "    x = 1\n" * 59
    done = sizes(tmp_path, function + "#\n" * (600 - function.count("\n")))
    assert (done.returncode, done.stdout) == (0, "sizes: 1 modules are fine\n")


def test_a_long_function_is_refused(tmp_path):
    done = sizes(tmp_path, "class A:\n    async def f(self):\n" + "        x = 1\n" * 60)
    assert done.returncode == 1
    assert "m.py:2: f has 61 lines" in done.stdout


def test_a_long_module_is_refused(tmp_path):
    done = sizes(tmp_path, "#\n" * 601)
    assert done.returncode == 1
    assert "601 lines" in done.stdout


def test_nothing_to_check_is_an_error(tmp_path):
    assert sh(sys.executable, ROOT / "tools" / "check_sizes.py", tmp_path).returncode == 2


# Locks ----------------------------------------------------------------------------


def locked():
    with open(ROOT / "uv.lock", "rb") as file:
        packages = tomllib.load(file)["package"]
    return {package["name"]: package for package in packages if package["name"] != "vigie"}


def test_both_lock_files_say_the_same():
    lines = re.findall(r"^([a-z0-9_.-]+)==([^ ;\\]+)", (ROOT / "requirements-dev.lock").read_text(), re.MULTILINE)
    assert dict(lines) == {name: package["version"] for name, package in locked().items()}, "run: make lock"


def test_the_lock_holds_every_declared_dependency():
    wanted = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["dev"]
    wanted += PROJECT["build-system"]["requires"]
    names = {re.match(r"[\w-]+", line)[0].lower() for line in wanted}
    assert names <= set(locked()), "run: make lock"


def test_locks_name_the_public_registry_alone():
    for name in ("uv.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text()
        hosts = set(re.findall(r"\w+://([^/\"'\s]+)", text))
        assert hosts <= {"pypi.org", "files.pythonhosted.org"}
        assert not re.search(r"^--?(index|extra-index|find-links|i |f )", text, re.MULTILINE)


def test_each_dependency_is_justified():
    text = (ROOT / "docs" / "explanation" / "dependencies.md").read_text()
    wanted = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["dev"]
    names = [re.match(r"[\w-]+", line)[0] for line in wanted]
    missing = [name for name in names if f"| {name} |" not in text]
    assert missing == []


# Imports --------------------------------------------------------------------------


def test_what_a_worker_loads_needs_the_standard_library_alone():
    """As worker.py loads it: a package by path, in an environment without Vigie or anything else."""
    names = sorted(path.stem for path in SRC.glob("worker_*.py"))
    assert "worker_loop" in names
    code = (
        "import importlib, sys\n"
        f"package = type(sys)('_vigie'); package.__path__ = [{str(SRC)!r}]; sys.modules['_vigie'] = package\n"
        f"for name in {names}: importlib.import_module('_vigie.' + name)\n"
        "print([n for n in sys.modules if n.split('.')[0] in ('vigie', 'apsw', 'cloudpickle')])\n"
    )
    done = sh(sys.executable, "-I", "-S", "-c", code)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("module", ["vigie", "vigie.client", "vigie.cli.main", "vigie.cli.start"])
def test_starting_a_job_imports_nothing_heavy(module):
    heavy = ["apsw", "asyncio", "cloudpickle", "dataclasses", "importlib.metadata", "multiprocessing", "rich"]
    code = f"import sys, {module}; print([n for n in {heavy} if n in sys.modules])"
    done = sh(sys.executable, "-c", code)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_the_library_has_few_names():
    import vigie

    names = getattr(vigie, "__all__", [])
    assert len(names) <= 40  # decision 008
    for name in names:
        assert getattr(vigie, name) is not None


@pytest.mark.slow
def test_the_layers_hold():
    done = sh(Path(sys.executable).parent / "lint-imports", "--no-cache", cwd=ROOT)
    assert done.returncode == 0, done.stdout


# Scripts --------------------------------------------------------------------------

SCRIPTS = ["tools/setup-venv", "tools/setup-system", "tools/install", ".ci/run"]


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_parse_and_can_be_run(name):
    path = ROOT / name
    shell = path.read_text().splitlines()[0].rpartition("/")[2].split()[-1]
    done = sh(shell, "-n", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert path.stat().st_mode & stat.S_IXUSR


def test_no_script_uses_sudo():
    for path in (*(ROOT / name for name in SCRIPTS), ROOT / "Makefile"):
        for line in path.read_text().splitlines():
            assert not re.match(r"[^#]*\bsudo ", line), f"{path}: {line}"


def packages():
    lines = (ROOT / "tools" / "system-packages").read_text().splitlines()
    return dict(line.split() for line in lines if line and not line.startswith("#"))


def test_every_program_that_tests_need_is_listed():
    used = set()
    for path in (ROOT / "tests").glob("test_*.py"):
        if path.name != Path(__file__).name:
            used |= set(re.findall(r"\bneed\(\s*[\"']([^\"']+)", path.read_text()))
    assert used <= set(packages()), "add it to tools/system-packages"


@pytest.fixture
def bare_path(tmp_path):
    """A PATH without any listed program, and an apt-get that only writes down what it was told."""
    for name in ("dirname", "id", "sh"):
        os.symlink(shutil.which(name), tmp_path / name)
    log = tmp_path / "log"
    apt = tmp_path / "apt-get"
    apt.write_text(f'#!/bin/sh\necho "$*" >>{log}\n')
    apt.chmod(0o755)
    return tmp_path, log


def test_an_ordinary_user_s_system_is_left_alone(bare_path):
    path, log = bare_path
    script = path / "tools" / "setup-system"
    shutil.copytree(ROOT / "tools", script.parent)
    who = {"user": 65534} if os.geteuid() == 0 else {}
    # Directories of pytest are closed to others: the script comes through standard input.
    with open(script, "rb") as text:
        done = sh("/bin/sh", "-s", stdin=text, env={"PATH": "/usr/bin:/bin"}, cwd="/", **who)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not log.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="apt-get is for root; run as root")
def test_root_gets_what_is_missing(bare_path):
    path, log = bare_path
    done = sh("/bin/sh", ROOT / "tools" / "setup-system", env={"PATH": str(path)})
    assert done.returncode == 0
    said = log.read_text().split()
    assert said[:2] == ["install", "-y"]
    # A file is looked for where it is, whatever PATH says.
    assert {package for name, package in packages().items() if not os.path.exists(name)} <= set(said)


@pytest.mark.skipif(os.geteuid() != 0, reason="apt-get is for root; run as root")
def test_a_package_that_is_not_to_be_had_hinders_no_other(bare_path):
    path, log = bare_path
    there, listed = path / "there", path / "list"
    there.touch()
    listed.write_text(f"# comment\n{there} a-file\n{path}/none gone\nno-program here\nsh sh\n")
    (path / "apt-get").write_text(f'#!/bin/sh\necho "$*" >>{log}\ncase "$*" in *gone*) exit 100 ;; esac\n')
    done = sh("/bin/sh", ROOT / "tools" / "setup-system", listed, env={"PATH": str(path)})
    assert done.returncode == 0
    assert "not installed: gone\n" in done.stderr
    words = [line.split()[4:] for line in log.read_text().splitlines() if line.startswith("install")]
    assert words == [["gone", "here"], ["gone", "here"], ["gone"], ["here"]]


def test_without_apt_the_lack_is_said(bare_path):
    path, _ = bare_path
    (path / "apt-get").unlink()
    done = sh("/bin/sh", ROOT / "tools" / "setup-system", env={"PATH": str(path), "CI": "1"})
    assert done.returncode == 0
    assert "no apt-get" in done.stderr
    assert "tmux" in done.stderr


def test_setup_refuses_a_python_that_is_too_old(tmp_path):
    done = sh("/bin/sh", ROOT / "tools" / "setup-venv", tmp_path / "v", env={**os.environ, "PYTHON": "/bin/false"})
    assert done.returncode == 1
    assert "older than 3.11" in done.stderr
    assert not (tmp_path / "v").exists()


def test_setup_without_any_way_says_what_to_install(bare_path):
    path, log = bare_path
    for name in ("sed", "head", "rm"):
        os.symlink(shutil.which(name), path / name)
    os.symlink(sys.executable, path / "python3")
    broken = path / "broken"
    broken.mkdir()
    for name in ("ensurepip", "virtualenv"):
        (broken / f"{name}.py").write_text("raise ImportError")
    env = {"PATH": str(path), "PYTHONPATH": str(broken)}
    done = sh("/bin/sh", ROOT / "tools" / "setup-venv", path / "v", env=env)
    assert done.returncode == 1
    assert "apt-get install python3-venv" in done.stderr
    assert not (path / "v").exists()
    # Root has tried; nobody else has touched the system.
    assert log.exists() == (os.geteuid() == 0)


def test_setup_does_not_replace_what_is_no_environment(tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "thesis.tex").write_text("years of work")
    done = sh("/bin/sh", ROOT / "tools" / "setup-venv", tmp_path / "v")
    assert done.returncode == 1
    assert "move it away" in done.stderr
    assert (tmp_path / "v" / "thesis.tex").read_text() == "years of work"


def test_make_lists_what_it_can_do(need):
    need("make")
    done = sh("make", "-s", "help", cwd=ROOT, env={"PATH": os.environ["PATH"]})
    for target in ("demo", "test", "install", "ci", "lint", "types", "layers", "bench", "clean"):
        assert f"make {target} " in done.stdout
