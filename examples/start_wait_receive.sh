#!/bin/sh
# Jobs in a shell script: start two, wait, receive, and see how a third one failed.
#
#     sh start_wait_receive.sh [DIRECTORY]
#
# `vigie start` prints the id alone, so that a script can keep it. Messages for people go to stderr, and only
# to a terminal.
set -eu
directory=${1:-$(dirname "$0")}

files=$(vigie start -n files --cwd "$directory" --shell 'find . -type f | wc -l')
space=$(vigie start -n space --cwd "$directory" -- du -sk .)

vigie wait "$files" "$space"
echo "files: $(vigie receive "$files" | tr -d ' ')"
echo "kilobytes: $(vigie receive "$space" | cut -f 1)"

# The exit code of `wait` says whether all completed; `why` says what happened if not.
broken=$(vigie start -n broken --shell 'echo "no such table" >&2; exit 3')
if vigie wait "$broken" 2>/dev/null; then
    echo "it worked after all"
else
    vigie why "$broken"
fi

# What follows a job that failed fails too, and is never run.
after=$(vigie start --after "$broken" -- echo never)
vigie wait "$after" 2>/dev/null || echo "$(vigie logs "$after" 2>/dev/null | wc -l | tr -d ' ') lines from what needed it"
