#!/usr/bin/env bash
# From a fresh clone to a report: environment, train on the bundled class, detect, open the report.
# Needs Python 3.11 or newer and the network for the packages; no GPU, no compiler, no weights.
set -euo pipefail
cd "$(dirname "$0")"
. scripts/environment.sh requirements.txt

threads=$(python -c 'import os; print(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())')
python train.py -s data/brick_dog -m out/quickstart --threads "$threads"
python detect.py --model out/quickstart --output out/quickstart/detections/quickstart --threads "$threads"
