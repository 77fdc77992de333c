#!/usr/bin/env bash
# Install what the tests need, build, and run all tests.  The last line counts them.
#   -R REGEX     only tests whose name matches
#   --quick      unit tests only, without those that run the whole program
#   --sanitize   the unit tests, built with the address and undefined-behaviour sanitizers
set -euo pipefail
cd "$(dirname "$0")/.."

folder=build
build=(--tests)
select=()
while [[ $# -gt 0 ]]; do
    case $1 in
        -R)
            [[ $# -ge 2 ]] || { echo "test: -R needs a regular expression" >&2 && exit 2; }
            select+=(-R "$2")
            shift
            ;;
        --quick) select+=(-L unit) ;;
        --sanitize)
            folder='build-asan'
            build=(--sanitize)
            select+=(-L unit)
            ;;
        -h | --help)
            sed -n '2,5s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
        *)
            echo "test: unknown option $1 (usage: scripts/test.sh [-R REGEX] [--quick]" \
                "[--sanitize])" >&2
            exit 2
            ;;
    esac
    shift
done

scripts/install_deps.sh --tests
scripts/build.sh "${build[@]}"

report=$PWD/$folder/test-report.xml
rm -f "$report"
status=0
# one more than there are cores: many tests start processes, or wait for a fault to be noticed
ctest --test-dir "$folder" --output-on-failure --no-tests=error --parallel "$(($(nproc) + 1))" \
    --output-junit "$report" "${select[@]}" || status=$?

# the attributes of <testsuite>: tests, failures, disabled, skipped
attribute() { sed -n "s/.*[[:space:]]$1=\"\([0-9]*\)\".*/\1/p" "$report" 2>/dev/null | head -n 1; }
if [[ ! -s $report ]]; then
    echo "test: ctest ran no test" >&2
    exit 1
fi
failed=$(attribute failures)
skipped=$(($(attribute skipped) + $(attribute disabled)))
echo
if [[ $skipped -gt 0 ]]; then
    echo "skipped:"
    sed -n 's/.*<testcase name="\([^"]*\)".*status="\(notrun\|disabled\)".*/  \1/p' "$report"
fi
echo "$(($(attribute tests) - failed - skipped)) passed, $failed failed, $skipped skipped"
exit "$status"
