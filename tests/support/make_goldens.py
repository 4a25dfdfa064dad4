"""Write the records of all cases that dm-clrs makes: ``python tests/support/make_goldens.py [case ...]``.

It takes about half an hour on one core, most of it for JAX to compile. Without arguments every case is made whose file
is missing.
"""

import sys

import numpy as np
import oracle
from cases import CASES, GOLDENS, INITIALISED, moments_path, write_golden


def main() -> None:
    """Make the goldens of the named cases."""
    GOLDENS.mkdir(exist_ok=True)
    names = sys.argv[1:]
    for case in CASES:
        if str(case) in names or (not names and not case.path().exists()):
            write_golden(case, oracle.record(case))
            print(f"{case}: {case.path().stat().st_size / 1024:.0f} KiB", flush=True)
    for case in INITIALISED:
        if not names and not moments_path(case).exists():
            record = oracle.initial_moments(case)
            np.savez_compressed(moments_path(case), keys=list(record), moments=np.stack(list(record.values())))


if __name__ == "__main__":
    main()
