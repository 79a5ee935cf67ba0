"""Runs the fuzzers: python -m tests.fuzz [NAME] --cases N --seed S; without a name, all of them."""

import argparse
import importlib
import sys

# Modules with run(cases, seed), which prints what fails and returns how many cases did.
FUZZERS = {
    "clouds": "tests.fuzz.clouds",
    "readers": "tests.fuzz.readers",
    "kills": "tests.fuzz.kills",
}
SLOW = ("kills",)  # seconds a case: only by name


def main() -> int:
    """1 when a case failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "name", nargs="?", choices=list(FUZZERS), help="one of them; default: all but kills"
    )
    parser.add_argument("--cases", "--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    names = [given.name] if given.name else [n for n in FUZZERS if n not in SLOW]
    failed = [importlib.import_module(FUZZERS[n]).run(given.cases, given.seed) for n in names]
    return int(any(failed))


if __name__ == "__main__":
    sys.exit(main())
