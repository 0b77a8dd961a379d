"""python -m fusedattn.demo: the demonstration; exits with 0 only if everything holds."""

import sys

from fusedattn.demo import run

if __name__ == "__main__":
    sys.exit(run())
