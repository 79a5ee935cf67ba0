#!/usr/bin/env bash
# Environment, linter, type checker, whole test suite. Arguments go to pytest.
#   bash run_tests.sh --sanitize [CASES]   only the CPU kernel, under AddressSanitizer and UBSan
set -euo pipefail
cd "$(dirname "$0")"
. scripts/environment.sh requirements-dev.txt

if [ "${1:-}" = --sanitize ]; then
    shift
    . scripts/sanitize.sh "$@"
    exit
fi

ruff check .
ruff format --check .
mypy
# One thread per process: the suite runs in as many processes as there are cores.
OMP_NUM_THREADS=1 python -m pytest -n auto --durations=10 "$@"
