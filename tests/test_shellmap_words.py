"""Items and words of ``vigie map``, beside what GNU parallel makes of them; see ``shellmap_argvs``.

Where Vigie differs on purpose is in ``test_shellmap_differences.py``.
"""

from __future__ import annotations

import functools
import io
import os
import subprocess

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from conftest import need
from shellmap_argvs import BEGIN, KINDS, NASTY, PRINT, SHAPES, by_parallel, by_shell, by_vigie, surroundings
from vigie.errors import UsageError
from vigie.shellmap.inputs import batched, column_pattern, command_items, parse_sources, read_items, split_columns
from vigie.shellmap.shell import ShellTemplate, fill_shell, quote
from vigie.shellmap.template import Template

__all__ = ["surroundings"]

FEW = settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])


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
          b"x=", b"if ", b"{}", b"{1}", b"{#}", b" {} ", b"{/}", b"\\\n"]  # fmt: skip
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
@example(b"echo a \\\n#{}", EVIL[4])
@example(b"cat <\\\n<E\n{}\nE", EVIL[5])
@example(b'echo "$(ca\\\nse x in x) echo "{}";; esac)"', EVIL[0])
@example(b"}\\ # <<E\nx[\nfor x in ", EVIL[10])
def test_no_line_runs_an_item(line, item):
    try:
        filled = fill_shell(line, [item], 1, 1)
    except UsageError:
        return
    for shell in ("/bin/sh", need("bash")):
        subprocess.run([shell, b"-c", filled], env={"PATH": "/nowhere"}, stdin=subprocess.DEVNULL, capture_output=True)
        assert not os.path.exists("M"), (shell, filled)
