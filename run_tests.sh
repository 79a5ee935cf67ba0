#!/usr/bin/env bash
# Environment, linter, type checker, whole test suite. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")"
. scripts/environment.sh requirements-dev.txt

ruff check .
ruff format --check .
mypy
# One thread per process: the suite runs in as many processes as there are cores.
OMP_NUM_THREADS=1 python -m pytest -n auto --durations=10 "$@"
