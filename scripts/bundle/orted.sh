#!/bin/sh
# What mpirun starts on other machines, over ssh, with nothing but OPAL_PREFIX set.
set -eu
B=$(dirname "$(dirname "$(readlink -f "$0")")")
. "$B/etc/env.sh"
exec "$B/libexec/orted" "$@"
