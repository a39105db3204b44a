"""``vigie completion SHELL``, and the quick verb behind it.

The scripts know nothing: each Tab asks ``vigie __complete``, which answers with
lines ``value<TAB>description``, or with one line that leaves it to the shell:
``:files``, ``:dirs``, or ``:command N`` when the last N words are a command line of
their own. It reads the store and never starts the
agent; when anything goes wrong it says nothing, since nobody wants to read a
message in the middle of a line.
"""

from __future__ import annotations

from vigie.cli.context import Verb
from vigie.model import FINISHED, JOB_STATES, STREAMS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence
    from typing import Any

    from vigie.cli.context import Context

    Candidates = Iterable[tuple[str, str]]

__all__ = ["COMPLETE", "EXAMPLES", "SUMMARY", "add_arguments", "run"]

SUMMARY = "print the script that completes words on Tab: verbs, options, ids, names, queues, states"
EXAMPLES = """\
source <(vigie completion bash)                                    # in ~/.bashrc
source <(vigie completion zsh)                                     # in ~/.zshrc, after compinit
vigie completion fish > ~/.config/fish/completions/vigie.fish
"""

_BASH = r"""# vigie completion bash
_vigie() {
    local line value quoted program="${COMP_WORDS[0]/#\~/$HOME}"
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            :files) compopt -o default 2>/dev/null; COMPREPLY=(); return ;;
            :dirs) compopt -o dirnames 2>/dev/null; COMPREPLY=(); return ;;
            :command*)
                if declare -F _command_offset >/dev/null; then
                    _command_offset $((COMP_CWORD - ${line#:command } + 1))
                elif [[ ${line#:command } == 1 ]]; then
                    mapfile -t COMPREPLY < <(compgen -A command -A file -- "${COMP_WORDS[COMP_CWORD]}")
                else
                    compopt -o default 2>/dev/null
                fi
                return ;;
        esac
        value=${line%%$'\t'*}
        printf -v quoted %q "$value"
        quoted=${quoted//\\,/,}
        COMPREPLY+=("$quoted")
    done < <("$program" __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    return 0
}
complete -F _vigie vigie
"""

_ZSH = r"""#compdef vigie
# vigie completion zsh
_vigie() {
    local line
    local -a values shown
    for line in "${(@f)$("${words[1]/#\~/$HOME}" __complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        case $line in
            (:files) _files; return ;;
            (:dirs) _files -/; return ;;
            (:command*) shift $(( CURRENT - ${line#:command } )) words; CURRENT=${line#:command }; _normal; return ;;
            (?*) values+=("${line%%$'\t'*}"); shown+=("${line/$'\t'/  }") ;;
        esac
    done
    (( $#values )) && compadd -l -V vigie -d shown -a values
}
compdef _vigie vigie
"""

_FISH = r"""# vigie completion fish
function __vigie_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l current $words[-1]
    for line in ($words[1] __complete -- $words[2..-1] 2>/dev/null)
        switch $line
            case ':files'
                __fish_complete_path $current
            case ':dirs'
                __fish_complete_directories $current
            case ':command*'
                if test $line = ':command 1'
                    __fish_complete_command
                else
                    __fish_complete_path $current
                end
            case '*'
                echo $line
        end
    end
end
complete -c vigie -f -a '(__vigie_complete)'
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
_OPEN = ("queued", "blocked", "running", "suspended")
#: Verbs whose words are jobs, and in which states those are of use.
_JOBS: dict[str, tuple[str, ...]] = {
    "show": (),
    "why": (),
    "logs": (),
    "receive": (),
    "events": (),
    "wait": _OPEN,
    "stop": _OPEN,
    "suspend": ("running",),
    "resume": ("suspended",),
    "retry": ("failed", "stopped", "lost"),
    "remove": FINISHED,
    "limit": ("running", "suspended"),
    "drain": ("running", "suspended"),
    "skip": ("running", "suspended"),
}
#: Verbs behind whose options stands a command.
_COMMANDS = ("start", "run", "map")
_FILES = (
    "--env-file",
    "--stdin",
    "--python",
    "-o",
    "--output",
    "-a",
    "--arg-file",
    "--joblog",
    "--results",
    "--tmpdir",
)
_FIXED = {
    "--state": JOB_STATES,
    "--stream": STREAMS,
    "--on-lost": ("fail", "rerun"),
    "--rate": ("none",),
    "--halt": ("now,fail=1", "soon,fail=1", "now,success=1", "soon,fail=10%"),
    "--slots": ("default",),
    "--overlap": ("skip", "queue-one", "queue-all", "parallel", "replace"),
    "--catch-up": ("none", "latest", "all"),
    "--if": ("power", "network", "idle 10m", "load < 1.5", "disk / 10GiB"),
}
_LISTS = ("--state", "--stream")
#: How many of the newest jobs are offered.
_MOST = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the shell."""
    parser.add_argument("shell", choices=sorted(_SCRIPTS), metavar="bash|zsh|fish", help="whose script")


def run(args: argparse.Namespace, out: Context) -> int:
    """Print the script."""
    out.stdout.write(_SCRIPTS[args.shell])
    return 0


# --- vigie __complete -----------------------------------------------------------------


class _Words:
    """The words so far; the last one is being typed."""

    def __init__(self, words: list[str]) -> None:
        self.what = words


def _parse(words: list[str], prog: str) -> _Words:
    return _Words(words[1:] if words[:1] == ["--"] else words)


def _no_arguments(parser: argparse.ArgumentParser) -> None:
    """Any word may come, and none is ours."""


def _complete(args: Any, out: Context) -> int:
    """Print the candidates for the last word."""
    words = _merged(args.what or [""])
    try:
        found = _candidates(words, out)
        for value, about in found:
            out.print(f"{value}\t{about}" if about else value)
    except Exception:
        # See the top of the file.
        return 1
    return 0


def _merged(words: Sequence[str]) -> list[str]:
    """Undo bash's splitting at ``=``: ``--state = fa`` is ``--state fa``."""
    out: list[str] = []
    for i, word in enumerate(words):
        if word == "=" and out and out[-1].startswith("--"):
            if i == len(words) - 1:
                out.append("")
            continue
        out.append(word)
    return out


def _candidates(words: list[str], out: Context) -> Candidates:
    current = words[-1]
    if len(words) == 1:
        from vigie.cli.help import verbs

        return [(verb, about.partition(";")[0]) for verb, about in verbs() if verb.startswith(current)]
    verb, before = words[0], words[1:-1]
    if verb in _COMMANDS:
        from vigie.cli.main import load

        options, what, literal = load(verb).split_words(before)
        if verb == "map" and any(word.startswith(":::") for word in what):
            return [(":files", "")]
        if what or literal:
            return [(f":command {len(what) + 1}", "")]
        before = options
    return [pair for pair in _of_verb(verb, before, current, out) if pair[0].startswith((current, ":"))]


def _of_verb(verb: str, before: list[str], current: str, out: Context) -> Candidates:
    option, equals, value = current.partition("=")
    if equals and option.startswith("--"):
        found = _value(verb, option, value, out)
        return [(f"{option}={word}", about) for word, about in found if word.startswith(value)]
    from vigie.cli.main import VERBS, load, parser_of

    if verb not in VERBS:
        return []
    parser = parser_of(verb, load(verb))
    options = _of_action(parser, before)
    if before and before[-1] in options and options[before[-1]].nargs != 0:
        return _value(verb, before[-1], current, out)
    if current.startswith("-") and current != "-":
        return [(name, action.help or "") for name, action in _of_action(parser, before).items() if name != "-h"]
    return _positional(verb, [word for word in before if not word.startswith("-")], out)


def _of_action(parser: argparse.ArgumentParser, before: Sequence[str]) -> dict[str, argparse.Action]:
    """Give the options of a verb, or those of its action where it has actions."""
    for action in parser._actions:
        if isinstance(action.choices, dict):
            chosen = next((action.choices[word] for word in before if word in action.choices), None)
            if chosen is not None:
                found: dict[str, argparse.Action] = chosen._option_string_actions
                return found
    return parser._option_string_actions


_AGENT = ("start", "stop", "restart", "status", "install", "uninstall", "backup", "restore")


def _positional(verb: str, before: Sequence[str], out: Context) -> Candidates:
    if verb in _JOBS:
        return [*_jobs(out, _JOBS[verb]), *(_services(out) if verb in ("logs", "why") else [])]
    if verb in _COMMANDS:
        return [(":command 1", "")]
    if verb == "queue":
        return _queues(out) if before else [(action, "") for action in ("list", "set", "pause", "resume")]
    if verb == "schedule":
        if not before:
            from vigie.cli.schedule import ACTIONS

            return list(ACTIONS)
        return _schedules(out) if before[0] not in ("add", "list") and len(before) == 1 else []
    if verb == "service":
        if not before:
            from vigie.cli.service import ACTIONS as OF_SERVICES

            return list(OF_SERVICES)
        return _services(out) if before[0] not in ("add", "list") else []
    if verb in ("apply", "up", "down"):
        return [(":files", "")]
    if verb == "agent":
        if before:
            return [(":files", "")] if before[0] in ("backup", "restore") else []
        return [(action, "") for action in _AGENT]
    if verb == "help":
        from vigie.cli.help import verbs
        from vigie.cli.words import WORDS

        return [*verbs(), *((word, text.partition("\n")[0]) for word, text in WORDS.items())]
    if verb == "completion":
        return [(shell, "") for shell in sorted(_SCRIPTS)]
    return []


def _value(verb: str, option: str, current: str, out: Context) -> Candidates:
    if option in _LISTS:
        # Of a list by commas the last part is being typed; what stands before it is not offered again.
        before, comma, _ = current.rpartition(",")
        used = before.split(",")
        return [(before + comma + value, "") for value in _FIXED[option] if value not in used]
    if option in _FIXED:
        return [(value, "") for value in _FIXED[option]]
    if option == "--queue":
        return _queues(out)
    if option == "--schedule":
        return _schedules(out)
    if option == "--timezone":
        import zoneinfo

        return [(zone, "") for zone in sorted(zoneinfo.available_timezones())]
    if verb == "service" and option in ("--after", "--requires", "--wants"):
        before, comma, _ = current.rpartition(",")
        return [(before + comma + name, about) for name, about in _services(out)]
    if option == "--service":
        return _services(out)
    if option in ("--after", "--after-any"):
        return _jobs(out, ())
    if option in ("--name", "-n") and verb not in _COMMANDS:
        return _names(out)
    if option == "--cwd":
        return [(":dirs", "")]
    return [(":files", "")] if option in _FILES else []


def _jobs(out: Context, states: tuple[str, ...]) -> Candidates:
    from vigie.selection import Filter
    from vigie.terminal import clean
    from vigie.view import label

    rows = out.reader().jobs(Filter(states=states), limit=_MOST)
    named = {row["name"]: row for row in reversed(rows) if row["name"]}
    about = [(str(row["id"]), f"{row['state']}  {clean(label(row))[:60]}") for row in rows]
    about += [(name, f"{row['state']}  {row['id']}") for name, row in named.items()]
    return [*about, ("last", "the newest job")] if rows else []


def _names(out: Context) -> Candidates:
    return dict.fromkeys((row["name"], "") for row in out.reader().jobs(limit=_MOST) if row["name"])


def _schedules(out: Context) -> Candidates:
    return [(name, "") for name in out.reader().schedules.names()]


def _services(out: Context) -> Candidates:
    """Give services, and the instances of those that have several."""
    found: list[tuple[str, str]] = []
    for row in out.reader().services.all():
        many = row["instances"] if len(row["instances"]) > 1 else []
        worst = row["instances"][0]["state"] if len(row["instances"]) == 1 else f"{len(many)} instances"
        found += [(row["name"], worst), *((each["name"], each["state"]) for each in many)]
    return found


def _queues(out: Context) -> Candidates:
    return [(row["name"], "paused" if row["paused"] else "") for row in out.reader().queues()]


COMPLETE = Verb("print what could stand here, for the completion scripts", "", _no_arguments, _complete, _parse)
