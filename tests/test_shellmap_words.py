"""Items and words of ``vigie map``, beside what GNU parallel makes of them.

parallel takes a tenth of a second to start: each call gets many items, or many templates. What a command
sees is what its shell's ``printf`` says. Where Vigie differs on purpose is :data:`DIFFERENCES`; each of
them is shown with both.
"""

from __future__ import annotations

import functools
import io
import os
import subprocess
import tempfile
from itertools import product
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from conftest import need
from vigie.errors import UsageError
from vigie.shellmap.inputs import batched, column_pattern, command_items, parse_sources, read_items, split_columns
from vigie.shellmap.shell import ShellTemplate, fill_shell, quote
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

FEW = settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module", autouse=True)
def surroundings():
    """Work in a directory of our own, with what says how parallel and a shell behave."""
    with tempfile.TemporaryDirectory() as top, pytest.MonkeyPatch.context() as patch:
        patch.chdir(top)
        for name, value in {"HOME": top, "LC_ALL": "C", "SHELL": "/bin/sh"}.items():
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


# Replacement strings ---------------------------------------------------------------


@pytest.mark.slow
def test_each_kind_of_replacement_string_over_every_shape_of_item():
    items = SHAPES + NASTY
    stdin = b"".join(item + b"\0" for item in items)
    for several in (1, 40):
        # With one item a command, a part of them: each is a process.
        fed = stdin if several > 1 else b"".join(item + b"\0" for item in NASTY)
        theirs = by_parallel(b"-0", b"-N%d" % several, b"--", *KINDS, stdin=fed)
        assert by_vigie(*KINDS, stdin=fed, several=several, separator=b"\0") == theirs
        assert sum(map(len, theirs)) == len(KINDS) * len(items if several > 1 else NASTY)


TOKENS = [*KINDS, b"{#}", b"{1}", b"{1/}", b"{1//}", b"{1.}", b"{1/.}", b"{2}", b"{2.}", b"{3}", b"{3/}", b"{-1}",
          b"{-1/.}", b"{01}", b"a", b"-b", b".", b"/", b"{", b"}", b"{x}"]  # fmt: skip
a_word = st.lists(st.sampled_from(TOKENS), min_size=1, max_size=4).map(b"".join)
an_item = st.one_of(st.sampled_from(SHAPES), st.sampled_from(NASTY), st.binary(max_size=6)).filter(
    lambda item: b"\0" not in item and not (b"\n" in item and b"/" in item)
)


@pytest.mark.slow
@FEW
@given(
    st.lists(st.lists(a_word, min_size=1, max_size=4), min_size=10, max_size=10),
    st.lists(an_item, min_size=1, max_size=5),
    st.integers(1, 3),
)
@example([[b"{2}{3}", b"{2}", b"x{2}", b"{#}{}", b"{}{1}"]], [b"a", b"b", b"c", b"d"], 3)
def test_templates_of_many_words(templates, items, several):
    stdin = b"".join(item + b"\0" for item in items)
    # In one call to parallel, with a hole of their own so that none gets items at its end.
    templates = [[b"{#}", *words] for words in templates]
    line = [word for words in templates for word in (*words, b"; " + PRINT)]
    theirs = by_parallel(b"-0", b"-N%d" % several, b"--", *line, stdin=stdin)
    each = [by_vigie(*words, stdin=stdin, several=several, separator=b"\0") for words in [*templates, [b"x{2}{#}"]]]
    ours = [argv for turn in zip(*each, strict=True) for argv in (*turn[:-1], [])]
    assert ours == theirs


@pytest.mark.slow
@pytest.mark.parametrize("several", [1, 2])
def test_items_come_at_the_end_where_nothing_says_elsewhere(several):
    words = [b"a", b"{x}", b"{", b":::", *NASTY[:6], b"", b"-n", b"\xff"]
    stdin = b"".join(item + b"\0" for item in words[4:])
    theirs = by_parallel(b"-0", b"-N%d" % several, b"--", *words[:3], stdin=stdin)
    assert by_vigie(*words, several=several) == theirs
    theirs = by_parallel(b"-0", b"-N%d" % several, b"--", b"a", b"{}", b"b", b"c", stdin=stdin)
    assert by_vigie(b"a", b"{}", b"b", b"c", *words[3:], several=several) == theirs
    # What counts is whether there is one, not whether it stands for an item.
    assert by_vigie(b"{#}", b":::", b"a", b"b") == by_parallel(b"--", b"{#}", b":::", b"a", b"b") == [[b"1"], [b"2"]]


@pytest.mark.slow
def test_words_are_arguments_as_with_parallel_q():
    words = [
        b"",
        b"a  b",
        b"$HOME",
        b"`id`",
        b"it's {}",
        b'"{/}"',
        b"\\",
        b";",
        b"*",
        b"a\nb",
        b"# {.}",
        b"{#}",
        b"|cat",
    ]
    items = [b"dir/a b.c", b"$(id)", b"'", b""]
    stdin = b"".join(item + b"\0" for item in items)
    theirs = by_parallel(b"-0", b"-q", b"--", b"printf", b"%s\\0", BEGIN, *words, stdin=stdin, command=None)
    assert by_vigie(*words, stdin=stdin, separator=b"\0") == theirs


@pytest.mark.slow
def test_the_slot():
    theirs = by_parallel(b"-j1", b"--", b"{%}", b"s{%}", b"{}", b":::", b"a", b"b")
    assert by_vigie(b"{%}", b"s{%}", b"{}", b":::", b"a", b"b") == theirs
    assert Template.parse([b"{%}", b"{#}"], several=1).fill([b"a"], 12, 345) == [b"345", b"12"]


def test_a_position_that_no_command_has_is_refused():
    for word, several, said in [
        (b"a{3}", 2, "{3}: a command has 2 items"),
        (b"{-2/.}", 1, "{-2/.}: a command has one item"),
    ]:
        with pytest.raises(UsageError) as caught:
            Template.parse([b"echo", word], several=several)
        assert caught.value.message == said
        with pytest.raises(UsageError, match="a command has"):
            ShellTemplate.parse(b"echo " + word, several=several)
        Template.parse([b"echo", word], several=0)
    Template.parse([b"echo", b"{2}{-2}"], several=2)
    with pytest.raises(UsageError, match="there is no command"):
        Template.parse([], several=1)


def test_what_is_no_replacement_string_stays():
    words = [b"{0}", b"{-0}", b"{--1}", b"{1", b"1}", b"{1#}", b"{...}", b"{1///}", b"{" + b"9" * 5000 + b"}",
             b"{\xb2}",             b"{{}", b"{}}", b"{1{1}1}", b"{/./}"]  # fmt: skip
    filled = [b"{x", b"x}", b"{1x1}"]
    expected = [*words[:10], *filled, words[-1]]
    assert Template.parse(words, several=1).fill([b"x"], 1, 1) == expected


# Inputs ------------------------------------------------------------------------------

values = st.lists(st.sampled_from([b"a", b"b c", b"", b"-d", b"$e"]), min_size=1, max_size=3)
an_input = st.one_of(
    st.tuples(st.just(b":::"), values),
    st.tuples(st.just(b"::::"), st.lists(st.sampled_from([b"numbers", b"letters"]), min_size=1, max_size=2)),
)


@pytest.mark.slow
@FEW
@given(st.lists(st.tuples(an_input, st.booleans()), min_size=1, max_size=3), st.integers(1, 3))
@example([((b":::", [b"a"]), False), ((b":::", [b"1", b"2"]), True), ((b"::::", [b"numbers"]), True)], 1)
@example([((b":::", [b"x", b"y"]), False), ((b"::::", [b"numbers"]), False), ((b":::", [b"1", b"2"]), True)], 1)
@example([((b"::::", [b"numbers", b"letters"]), False), ((b"::::", [b"letters", b"numbers"]), True)], 2)
def test_products_and_links(inputs, several):
    words = []
    for at, ((separator, group), link) in enumerate(inputs):
        words += [separator + (b"+" if link and at else b""), *group]
    assert by_vigie(*words_of(words), several=several) == by_parallel(b"-N%d" % several, b"--", *words)


def words_of(words: list[bytes]) -> list[bytes]:
    """Put a word before the inputs, as a command has to have one, and parallel has its printf."""
    return [b"{}", *words]


@pytest.mark.slow
def test_files_and_stdin():
    for words, files, stdin in [
        ([], (b"numbers",), b""),
        ([], (b"numbers", b"letters"), b""),
        ([b":::", b"A", b"B"], (b"letters",), b""),
        ([], (), b"a\n\nb\n\n c \r\n\nlast"),
        ([b"::::", b"-", b":::", b"A", b"B"], (), b"1\n2\n"),
        ([b"::::", b"letters", b"::::+", b"-"], (), b"1\n2\n3\n"),
        ([], (b"-", b"letters"), b"1\n2\n"),
        ([], (), b""),
        ([b":::"], (), b""),
        ([b"::::", b"nothing"], (), b"1\n"),
    ]:
        options = [word for path in files for word in (b"-a", path)]
        theirs = by_parallel(*options, b"--", *words, stdin=stdin)
        assert by_vigie(*words_of(words), files=files, stdin=stdin) == theirs, (words, files)


@pytest.mark.slow
def test_blank_items():
    stdin = b"\na\n \n\t\r\n\x0b\x0c\nb \n\n"
    assert by_vigie(b"{}", stdin=stdin) == by_parallel(b"--", stdin=stdin)
    kept = by_vigie(b"{}", stdin=stdin, blank=False)
    assert kept == by_parallel(b"-r", b"--", stdin=stdin) == [[b"a"], [b"b "]]
    words = [b":::", b"", b"a", b" "]
    assert by_vigie(b"{}", *words, blank=False) == by_parallel(b"-r", b"--", *words) == [[b"a"]]


@pytest.mark.slow
def test_columns():
    lines = b"a,b;c\n,\n\n;d, e\tf ,\n\xff\xfe,\xaf\na\n"
    words = [b"{2}", b"x{3}", b"{1.}", b".", b"{}", b"{-1}"]
    for regex in (b",", b"[,;]", b"\\t", b" +|,", b"\\s*[,;]\\s*", b"(?:,|;)", b"(?i)D"):
        columns = column_pattern(regex)
        ours = by_vigie(*words, stdin=lines, columns=columns)
        assert ours == by_parallel(b"-N1", b"--trim", b"n", b"--colsep", regex, b"--", *words, stdin=lines), regex
    columns = column_pattern(b",")
    words = [b"{}", b"{1}", b":::", b"a,b", b"c", b":::+", b"1", b"2,3", b":::", b"x,"]
    for several in (1, 2):
        theirs = by_parallel(b"-N%d" % several, b"--colsep", b",", b"--", *words)
        assert by_vigie(*words, several=several, columns=columns) == theirs


@given(
    st.lists(st.sampled_from([b"a", b"b", b"ab", b"\n", b"\0", b"xyz" * 5]), max_size=30).map(b"".join),
    st.sampled_from([b"\n", b"\0", b"ab", b"aa", b"aba", b"\0a"]),
    st.integers(1, 9),
)
@example(b"xaby", b"ab", 2)
def test_items_of_a_stream_do_not_depend_on_how_it_is_read(data, separator, chunk):
    whole = data.split(separator)
    expected = whole if whole[-1] else whole[:-1]
    if b"\0" in data and b"\0" not in separator:
        with pytest.raises(UsageError, match="NUL"):
            list(read_items(io.BytesIO(data), separator, chunk))
    else:
        assert list(read_items(io.BytesIO(data), separator, chunk)) == expected
    with pytest.raises(UsageError, match="separator"):
        read_items(io.BytesIO(data), b"")


class Waiting(io.FileIO):
    """A pipe that does not block, whose writer writes when its reader has found nothing."""

    later = b""

    def read(self, size=-1):
        block = super().read(size)
        if block is None:
            os.write(self.writer, self.later)
            self.later = b""
        return block


def test_an_item_is_given_as_soon_as_it_is_there():
    for blocking in (True, False):
        reader, writer = os.pipe()
        os.set_blocking(reader, blocking)
        with open(reader, "rb") if blocking else Waiting(reader) as stream:
            if not blocking:
                stream.writer, stream.later = writer, b"rd\nlast"
            items = command_items(parse_sources([b"cat"])[1], stdin=stream)
            os.write(writer, b"first\nsecond\nthi")
            assert [next(items), next(items)] == [(b"first",), (b"second",)]
            if blocking:
                os.write(writer, b"rd\nlast")
            assert next(items) == (b"third",)
            os.close(writer)
            assert list(items) == [(b"last",)]


def test_only_what_is_combined_is_kept():
    taken = []

    class Endless(io.RawIOBase):
        def read(self, size=-1):
            taken.append(1)
            return b"%d\n" % len(taken)

    _, sources = parse_sources([b"echo", b"::::", b"-", b":::", b"a", b"b"])
    items = command_items(sources, stdin=Endless(), several=3)
    assert next(items) == (b"1", b"a", b"1", b"b", b"2", b"a")
    assert len(taken) == 2


def test_files_are_opened_first_and_closed_last():
    with pytest.raises(UsageError, match="no items can be read from gone: No such file"):
        next(command_items(parse_sources([b"{}", b"::::", b"numbers", b"gone"])[1]))
    with pytest.raises(UsageError, match=r"from \.: Is a directory"):
        next(command_items(parse_sources([b"{}"], [b"."])[1]))
    before = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else os.listdir("/dev/fd")
    items = command_items(parse_sources([b"{}", b"::::", b"numbers", b"letters"])[1])
    assert next(items) == (b"1", b"x")
    items.close()
    assert len(os.listdir("/proc/self/fd" if os.path.isdir("/proc/self/fd") else "/dev/fd")) == len(before)


def test_stdin_is_descriptor_0():
    code = "from vigie.shellmap.inputs import *; print(list(command_items(parse_sources([b'wc'])[1])))"
    run = functools.partial(subprocess.run, [os.sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run(input="a\nb").stdout == "[(b'a',), (b'b',)]\n"
    closed = run(preexec_fn=functools.partial(os.close, 0))
    assert "UsageError: no items can be read from -: Bad file descriptor" in closed.stderr


def test_groups_and_columns_of_any_iterable():
    assert list(batched(iter(range(5)), 2)) == [(0, 1), (2, 3), (4,)]
    assert split_columns(b"a1b22c", rb"[0-9]+") == (b"a", b"b", b"c")
    assert split_columns(b"a-b+c", rb"(-)|(\+)") == (b"a", b"b", b"c")
    for regex in (b"(", b"", b" *", b"$", rb"\h"):
        with pytest.raises(UsageError, match="column separator"):
            column_pattern(regex)


# Lines for a shell -------------------------------------------------------------------


def test_a_shell_reads_back_every_item():
    items = SHAPES + NASTY + [bytes([byte]) for byte in range(1, 256)]
    line = b"for x in {}; do case $x in {1}) ;; esac; " + PRINT + b' "$x"; done; ' + PRINT + b" {-1}{.}"
    seen = by_shell(fill_shell(line, items, 1, 1))
    assert seen[:-1] == [[item] for item in items]
    last = seen[-1]
    assert last[0] == items[-1] + Template.parse([b"{.}"], several=0).fill(items, 1, 1)[0]
    assert last[1:] == Template.parse([b"{.}"], several=0).fill(items, 1, 1)[1:]


@pytest.mark.slow
def test_lines_beside_parallel():
    lines = [
        b" {} | cat", b" a {.} >out{#}; cat out{#}", b" {/}b{#}; x={}; " + PRINT + b' "$x"', b' "$(' + PRINT + b' {})"',
        b" $(echo {#}) # end", b" 'it' \"is\" \\a {//} \\\n {1}{1}", b" x{2}y {2}; (" + PRINT + b" {})", b" {-1}; :",
    ]  # fmt: skip
    items = [item for item in NASTY if b"/" not in item or b"\n" not in item][:40]
    stdin = b"".join(item + b"\0" for item in items)
    whole = b"\n".join(PRINT + line for line in lines)
    theirs = by_parallel(b"-0", b"--", whole, stdin=stdin, command=None)
    template = ShellTemplate.parse(whole)
    ours = [argv for at, item in enumerate(items, 1) for argv in by_shell(template.fill([item], at, 1))]
    assert ours == theirs


def test_items_come_at_the_end_of_a_line():
    assert fill_shell(b"echo", [b"a b", b"c"], 1, 1) == b"echo 'a b' c"
    assert fill_shell(b"echo {#}", [b"a b", b"c"], 7, 1) == b"echo 7"
    assert fill_shell(b"echo {3}.", [b"a b", b"c"], 7, 1) == b"echo ."
    with pytest.raises(UsageError, match="in a comment"):
        fill_shell(b"echo # all", [b"a"], 1, 1)


@pytest.mark.parametrize(
    ("line", "where"),
    [
        (b'echo "{}"', "in quotes"),
        (b"echo 'a {/}'", "in quotes"),
        (b"""echo "a" '"' "{}" """, "in quotes"),
        (b'echo "$(echo a) {}"', "in quotes"),
        (b"echo `cat {}`", "in `...`"),
        (b'echo "`cat {}`"', "in `...`"),
        (b"echo `echo $(cat {})`", "in `...`"),
        (b"echo $(( {} + 1 ))", "in arithmetic"),
        (b"echo $(( (1) + (2 * {}) ))", "in arithmetic"),
        (b"(( {} ))", "in arithmetic"),
        (b"echo $((cd x) && ls {})", "in arithmetic"),
        (b"echo $[ {} ]", "in arithmetic"),
        (b"echo ${x%{}}", r"in \$\{...\}"),
        (b'echo "${x:-{}}"', r"in \$\{...\}"),
        (b"""echo "${x:-'}"'}" {} ' """, r"in \$\{...\}"),
        (b"echo ${1}", r"behind a \\ or a \$"),
        (b"echo \\{}", r"behind a \\ or a \$"),
        (b"echo a # {}", "in a comment"),
        (b"cat <<E\n{}\nE\n", "behind a here-document"),
        (b"cat <<-'E' # x\n{}\nE\n", "behind a here-document"),
        (b"echo $'a' {}", r"behind \$'"),
        (b"x=(a b); echo {}", "behind an array"),
        (b'echo "$(case x in x) echo "b {} c";; esac)"', "behind a case"),
    ],
)
def test_where_quoting_would_not_hold_an_item_is_refused(line, where):
    with pytest.raises(UsageError, match=f"stands {where}") as caught:
        ShellTemplate.parse(line)
    assert caught.value.hint


def test_where_an_item_is_an_argument_it_is_taken():
    for line in (
        b'echo ${#x} $# {} \'a\' "b" "\\"" $(ls {}) "$(ls {})" $((1 + 2)) {} `ls` {} \\\' {}',
        b"cat <<<x {}\necho {}",
        b"(cd {}; ls) && ((1)) && ls {}",
        b"# all of them\nls {}",
        b"echo a#b {} ${x%'}'} {}",
        b"echo a\\ # {} $( (echo) ) {}",
        b"cat <<E {}\nE\n",
        b"echo $((1 << 2)) {}\necho {}",
    ):
        assert ShellTemplate.parse(line).fill([b"x y"], 1, 1) == line.replace(b"{}", b"'x y'")


def test_an_item_does_not_join_what_stands_beside_it():
    assert by_shell(fill_shell(b"x=1; " + PRINT + b" $x{} {}>out; cat out", [b"2"], 1, 1)) == [[b"12", b"2"]]
    assert by_shell(fill_shell(b"x=1; " + PRINT + b" $x{2}{1}{}{}>out; cat out", [b"2"], 1, 1)) == [[b"1222"]]
    done = subprocess.run(
        [b"/bin/sh", b"-c", fill_shell(b"{} true; {2}", [b"A=b", b"do"], 1, 1)], stderr=subprocess.PIPE
    )
    assert (done.returncode, done.stderr.count(b"not found")) == (127, 2)
    assert quote(b"-_.+/azAZ09") == b"-_.+/azAZ09"


PIECES = [b"printf %s", b" ", b" ", b"'", b'"', b"`", b"$(", b"(", b")", b"${x", b"}", b"$((", b"))", b"((", b"\\",
          b"$", b" #", b"\n", b";", b"$[", b"=(", b"\\ ", b" <<E\n", b"\nE\n", b"<<<", b"case x in x) ", b";; esac",
          b"x=", b"if ", b"{}", b"{1}", b"{#}", b" {} ", b"{/}"]  # fmt: skip
RUN = b":>M"
EVIL = [b"$(" + RUN + b")", b"`" + RUN + b"`", b"';" + RUN + b";'", b'";' + RUN + b';"', b"\n" + RUN + b"\n",
        b"E\n" + RUN + b"\n", b"'$(" + RUN + b")'", b'"$(' + RUN + b')"', b"\\'$(" + RUN + b")",
        b")\n" + RUN + b"\n(", b"}$(" + RUN + b")", b"))\n" + RUN + b"\n#", b"\\\n" + RUN + b"\n"]  # fmt: skip


@pytest.mark.slow
@settings(max_examples=150)
@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=9).map(b"".join), st.sampled_from(EVIL))
@example(b'printf %s "$(case x in x) printf "%s {} c";; esac)"', EVIL[0])
@example(b"printf $'\\' '{}'", EVIL[2])
@example(b"x=(;{}", EVIL[4])
@example(b" {} printf %s$((){}\"';)) <<E\n", EVIL[6])
@example(b"$(x=((x=}", EVIL[11])
@example(b"$[ {}", EVIL[7])
@example(b"}\\ # <<E\nx[\nfor x in ", EVIL[10])
def test_no_line_runs_an_item(line, item):
    try:
        filled = fill_shell(line, [item], 1, 1)
    except UsageError:
        return
    for shell in ("/bin/sh", need("bash")):
        subprocess.run([shell, b"-c", filled], env={"PATH": "/nowhere"}, stdin=subprocess.DEVNULL, capture_output=True)
        assert not os.path.exists("M"), (shell, filled)


# Differences -------------------------------------------------------------------------


class Difference(NamedTuple):
    """What parallel gives and what Vigie gives: the arguments of each command, or what is said in refusal."""

    title: str
    words: list[bytes]
    parallel: list[list[bytes]]
    vigie: list[list[bytes]] | str
    reason: str
    options: tuple[bytes, ...] = ()
    stdin: bytes = b""
    how: dict = {}
    command: bytes | None = PRINT


def line(text: str) -> list[bytes]:
    return text.encode().split()


DIFFERENCES = [
    Difference(
        "words of the command are arguments",
        [b"a  b", b"$((1+1))", b"{}", *line("::: x")],
        [line("a b 2 x")],
        [[b"a  b", b"$((1+1))", b"x"]],
        "No shell is between, unless --shell asks for it. parallel -q does the same.",
    ),
    Difference(
        "an item in the place of the command is its name",
        [b"{}", b":::", PRINT + b" 'a  b'"],
        [[b"a  b"]],
        [[PRINT + b" 'a  b'"]],
        "An item is never parsed by a shell. Lines that are commands: vigie map -- sh -c {}.",
        command=None,
    ),
    Difference(
        "`-n` repeats the word",
        line("a{}b ::: 1 2 3"),
        [line("a1 2b"), line("a3b")],
        [line("a1b a2b"), line("a3b")],
        "-n is what -N is in parallel; its -n puts the items there with a space between, where a shell cuts.",
        options=(b"-n2",),
        how={"several": 2},
    ),
    Difference(
        "`{}` in a word, with several inputs",
        line("a{}b ::: 1 ::: 2"),
        [line("a1 2b")],
        [line("a1b a2b")],
        "One rule for all: the word is repeated with each item. parallel does so with -N, -m and -X only.",
    ),
    Difference(
        "negative positions end at the first item",
        line("{-1} {-2} {-3} ::: a ::: b"),
        [line("b a b")],
        [line("b a")],
        "parallel goes round once; there is no such item, and an argument less is what {3} gives too.",
    ),
    Difference(
        "`{0}` is no replacement string",
        line("{0} {1#} {1%} ::: a"),
        [line("a")],
        [line("{0} {1#} {1%} a")],
        "Items count from 1. parallel takes {0} for {}, and {1#} for the eleventh item.",
    ),
    Difference(
        "no blank in a replacement string",
        [b"{1 .}", b"{1.}", b":::", b"a.b"],
        [line("a a")],
        [[b"{1 .}", b"a"]],
        "It is not documented there, and other programs have such words.",
        options=(b"-q",),
        command=None,
    ),
    Difference(
        "`{/}` of an item with a newline",
        [b"{/}", b"{/.}"],
        [[b"d\nf.c", b"d\nf"]],
        [[b"f.c", b"f"]],
        "A file name is what stands behind the last slash; parallel looks for one line by line.",
        options=(b"-0",),
        stdin=b"d\nx/f.c",
        how={"separator": b"\0"},
    ),
    Difference(
        "an item behind `:::` may have a newline",
        [b"{}", b":::", b"a\nb", b"c"],
        [line("a"), line("b"), line("c")],
        [[b"a\nb"], [b"c"]],
        "It is an argument already. parallel needs -0 for it.",
    ),
    Difference(
        "an input without items",
        line("{} ::: a b :::"),
        [[b"a", b""], [b"b", b""]],
        [],
        "Nothing combined with nothing is nothing; parallel makes up an empty item.",
    ),
    Difference(
        "a linked input without items",
        line("{} ::: a b :::+"),
        [[b"a", b""]],
        [],
        "Linked inputs end with the shortest, here too.",
    ),
    Difference(
        "`:::+` links to `-a`",
        line("{} :::+ 1 2"),
        [line("x 1"), line("x 2"), line("y 1"), line("y 2")],
        [line("x 1"), line("y 2")],
        "It is linked to the input before it, whatever that is.",
        options=(b"-a", b"letters"),
        how={"files": (b"letters",)},
    ),
    Difference(
        "`:::+` with nothing before it",
        line("{} :::+ 1 2"),
        [line("1"), line("2")],
        ":::+ has no input before it to be linked to",
        "A word was forgotten.",
    ),
    Difference(
        "`::::` without a file",
        line("{} ::::"),
        [line("x"), line("y")],
        "no file stands behind ::::",
        "An unset variable would wait for a terminal; - says stdin.",
        stdin=b"x\ny\n",
    ),
    Difference(
        "stdin twice",
        line("{} :::: - -"),
        [line("1 2"), line("1 3")],
        "stdin is given as two inputs",
        "It can be read but once. Pairs of lines: -n 2.",
        stdin=b"1\n2\n3\n",
    ),
    Difference(
        "an item with a NUL",
        line("{}"),
        [[b"a\\0b"]],
        "an item has a NUL byte",
        "No argument can have one: -0 was forgotten. parallel warns, and puts \\0 in its place.",
        stdin=b"a\0b\n",
    ),
    Difference(
        "white space around columns",
        line("{1} {2}"),
        [line("a b")],
        [[b"a", b" b "]],
        "An item is passed on as it is. --colsep '\\s*,\\s*' takes it away; parallel does unless it has --trim n.",
        options=(b"--colsep", b","),
        stdin=b"a, b \n",
        how={"columns": b","},
    ),
    Difference(
        "groups in `--colsep`",
        [b"{}", b":::", b"a-b+c"],
        [[b"a", b"-", b"", b"b", b"", b"+", b"c"]],
        [line("a b c")],
        "Columns are what lies between. The flavour is that of Python's re, not Perl's.",
        options=(b"--colsep", rb"(-)|(\+)"),
        how={"columns": rb"(-)|(\+)"},
    ),
    Difference(
        "`--colsep` that matches nothing",
        [b"{}", b":::", b"ab c"],
        [[b"a", b"b", b"c", b""]],
        "the column separator ' *' matches the empty text too",
        "It would cut between any two bytes: + is meant.",
        options=(b"--colsep", b" *"),
        how={"columns": b" *"},
    ),
    Difference(
        "`--shell`: an item in quotes",
        [b'"{}"', b":::", b"$(echo run)"],
        [[b"'run'"]],
        "{} stands in quotes: an item cannot be quoted there",
        "Its quotes and those of the line would undo each other, and it would run. So too in `...`, $((...)), ${...},"
        " in comments and in here-documents.",
        how={"shell": True},
    ),
    Difference(
        "`--shell`: a number before `>`",
        [b"{}>out; cat out", b":::", b"1", b"12"],
        [[], []],
        [[b"1"], [b"12"]],
        "An item is an argument, also where a shell would take it for the number of a descriptor.",
        how={"shell": True},
    ),
    Difference(
        "`--shell`: several items in a word",
        [b"a{}b", b":::", b"1", b"2"],
        [line("a1b a2b")],
        [line("a1 2b")],
        "In a line for a shell, where a word begins and ends is for the shell to say.",
        options=(b"-N2",),
        how={"shell": True, "several": 2},
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("case", DIFFERENCES, ids=[case.title for case in DIFFERENCES])
def test_differences(case):
    command, words = case.command, case.words
    if b"-q" in case.options:
        words = [b"printf", b"%s\\0", BEGIN, *words]
    theirs = by_parallel(*case.options, b"--", *words, stdin=case.stdin, command=command)
    assert theirs == case.parallel

    def ours():
        how = dict(case.how)
        if "columns" in how:
            how["columns"] = column_pattern(how["columns"])
        return by_vigie(*case.words, stdin=case.stdin, **how)

    if isinstance(case.vigie, str):
        with pytest.raises(UsageError) as caught:
            ours()
        assert case.vigie in caught.value.message
    else:
        assert ours() == case.vigie
    assert case.vigie != case.parallel
