"""Where ``vigie map`` differs from GNU parallel on purpose: each difference is shown with both, and has a reason."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from shellmap_argvs import BEGIN, PRINT, by_parallel, by_vigie, surroundings
from vigie.errors import UsageError
from vigie.shellmap.inputs import column_pattern

__all__ = ["surroundings"]


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
        [b"{}>out; cat out", b":::", b"1"],
        [[]],
        [[b"1"]],
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
