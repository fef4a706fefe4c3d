"""Coverage-guided fuzzing of a parser: `fuzz_by_coverage.py TARGET [libFuzzer options]`; targets: `fuzz_parsers`.

Needs atheris (`pip install 'shadowrig[fuzz]'`). It watches our own code and the reader of MCAP: to instrument all that
is imported takes longer than the fuzzing.
"""

from __future__ import annotations

import sys

import atheris

if __name__ == "__main__":
    with atheris.instrument_imports(include=["runtime", "mcap", "fuzz_parsers"]):
        from fuzz_parsers import TARGETS

    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
