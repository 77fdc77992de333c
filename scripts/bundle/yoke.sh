#!/bin/sh
# yoke of the bundle: the environment, then the program.
set -eu
B=$(dirname "$(readlink -f "$0")")
. "$B/etc/env.sh"
exec "$B/libexec/yoke" "$@"
