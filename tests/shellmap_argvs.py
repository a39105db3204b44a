"""What commands see of their items: by GNU parallel, by Vigie and by a shell.

parallel takes a tenth of a second to start: each call gets many items, or many templates. What a command
sees is what its shell's ``printf`` says.
"""

from __future__ import annotations

import io
import subprocess
import tempfile
from itertools import product

import pytest

from conftest import need
from vigie.shellmap.inputs import command_items, parse_sources
from vigie.shellmap.shell import ShellTemplate
from vigie.shellmap.template import Template

BEGIN = b"<begin>"
PRINT = rb"printf '%s\0' '<begin>'"
KINDS = (b"{}", b"{.}", b"{/}", b"{//}", b"{/.}")
#: All short paths, and what shells, options and encodings stumble over.
SHAPES = [bytes(letters) for size in range(5) for letters in product(b"a./", repeat=size)]
NASTY = [
    b" ", b"a b.c d", b" lead", b"trail ", b"it's.x", b'say "hi".x', b"two\nlines", b"\n", b"a\n.b\n", b"-n", b"--",
    b"--help=.x", b"$(id)", b"`id`.x", b"$HOME/.x", b"\\", b"a\\.b", b"\\n", b"*", b"?.[a]", b"~", b"~/a.b", b"#", b"!",
    b"a;b", b"a&b", b"a|b", b"a>b", b"(a)", b"{}", b"{.}", b"{1}.{2}", b"%s\\0", b"=", b"A=b", b"if",
    b"\xff\xfe.\x80/\xaf", b"\xaf<1\xaf>.x/y", b"\xc3\xa9t\xc3\xa9.txt", b"\r", b"a\r", b"\t.\t",
    "\u2028/\u00a0.x".encode(), b".hidden", b"x.", b"dir/.x", b"//", b"a//b.c", b"a.b/c", b"a.b/", b"a/b.c///", b"///a",
    b"..", b"a/..", b"a.tar.gz", b"x" * 300,
    *(bytes(range(at, min(at + 16, 256))).replace(b"\n", b"").replace(b"/", b"") for at in range(1, 256, 16)),
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def surroundings():
    """Work in a directory of our own, with what says how parallel and a shell behave."""
    with tempfile.TemporaryDirectory() as top, pytest.MonkeyPatch.context() as patch:
        patch.chdir(top)
        for name, value in {"HOME": top, "LC_ALL": "C", "SHELL": "/bin/sh", "PARALLEL_SHELL": "/bin/sh"}.items():
            patch.setenv(name, value)
        patch.delenv("PARALLEL", raising=False)
        for name, lines in {"numbers": b"1\n2\n3\n", "letters": b"x\ny\n", "nothing": b""}.items():
            with open(name, "wb") as file:
                file.write(lines)
        yield


def argvs(printed: bytes) -> list[list[bytes]]:
    """Give the arguments behind each BEGIN."""
    words = printed.split(b"\0")
    assert words.pop() == b""
    found: list[list[bytes]] = []
    for word in words:
        if word == BEGIN:
            found.append([])
        else:
            found[-1].append(word)
    return found


def by_parallel(*words: bytes, stdin: bytes = b"", command: bytes | None = PRINT) -> list[list[bytes]]:
    """Give the arguments that commands see which GNU parallel runs: options, ``--``, words."""
    at = words.index(b"--")
    options, words = words[:at], words[at + 1 :]
    line = [need("parallel"), "-k", "-j2", "--will-cite", *options, *([command] if command else []), *words]
    done = subprocess.run(line, input=stdin, capture_output=True, timeout=60)
    assert not done.stderr.replace(b"parallel: Warning", b"").startswith(b"parallel:"), done.stderr
    return argvs(done.stdout)


def by_vigie(
    *words: bytes, stdin: bytes = b"", several: int = 1, files: tuple[bytes, ...] = (), shell: bool = False, **how
) -> list[list[bytes]]:
    """Give the arguments of the commands that Vigie would run; of a line, those that its shell gives to them."""
    command, sources = parse_sources(words, files)
    commands = list(command_items(sources, several=several, stdin=io.BytesIO(stdin), **how))
    if not shell:
        template = Template.parse(command, several=0)
        return [template.fill(items, at, 1) for at, items in enumerate(commands, 1)]
    line = ShellTemplate.parse(PRINT + b" " + command[0])
    return [argv for at, items in enumerate(commands, 1) for argv in by_shell(line.fill(items, at, 1))]


def by_shell(line: bytes) -> list[list[bytes]]:
    return argvs(subprocess.run([b"/bin/sh", b"-c", line], stdout=subprocess.PIPE, timeout=60).stdout)
