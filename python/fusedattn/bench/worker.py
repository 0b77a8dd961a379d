"""worker.py: a Runner in a process of its own, driven by lines of JSON over its standard input and output.

Request  {"do": "prepare", "cell": {...}} | {"do": "time", "direction": "forward", "calls": 3}
Answer   {"time": [seconds, CPU seconds in a second]} | {} | {"error": "sentence"}
"""

from __future__ import annotations

import json
import os
import sys


def _answer(runner, request: dict) -> dict:
    from fusedattn.bench.cells import Cell

    if request["do"] == "prepare":
        fields = dict(request["cell"])
        fields["whole"] = tuple(fields["whole"]) if fields["whole"] else None
        runner.prepare(Cell(**fields))
        return {}
    return {"time": runner.time(request["direction"], request["calls"])}


def main() -> None:
    """Serves requests until its input ends. Anything printed by others goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from fusedattn.bench.runner import Runner

    runner = Runner("torch")
    answers.write("{}\n")
    answers.flush()
    for line in sys.stdin:
        try:
            answer = _answer(runner, json.loads(line))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
