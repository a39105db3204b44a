#!/bin/sh
# Say hello, every day at nine.
#
#     vigie schedule add hello "daily 09:00" --script hello.sh
#     vigie schedule run hello         # now, in the surroundings that it will have at nine
#
# What it says is kept: vigie logs hello. In a file it is [schedule.hello] of vigie.toml.
set -eu
echo "Hello $(id -un), it is $(date '+%A, %H:%M')."
