#!/usr/bin/env bash
# From a fresh clone to a report: environment, train on the bundled class, detect, open the report.
# Needs Python 3.11 or newer and the network for the packages; no GPU, no compiler, no weights.
set -euo pipefail
cd "$(dirname "$0")"
. scripts/environment.sh requirements.txt

python train.py -s data/brick_dog -m out/quickstart
python detect.py --model out/quickstart --output out/quickstart/detections/quickstart
