"""worker.py: a runner in a process of its own, driven by lines of JSON over its standard input and output.

Request  {"do": "prepare", "cell": {...}} | {"do": "refuses", "cell": {...}, "direction": "forward"}
         {"do": "time", "direction": "forward", "calls": 3} | {"do": "first_head", "directions": [...]}
Answer   {} | {"refuses": null or "sentence"} | {"time": [seconds, CPU seconds in a second]}
         {"first_head": {"out": {"shape": [...], "float32": "base64"}}} | {"error": "sentence"}
"""

from __future__ import annotations

import base64
import json
import os
import sys

import numpy as np

from fusedattn.bench.cells import Cell


def runner_of(kind: str):
    """The runner of a peer; its framework is imported only here."""
    if kind == "jax":
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # it takes as many threads as it has CPUs
        from fusedattn.bench.runner_jax import Runner

        return Runner()
    if kind == "onnxruntime":
        from fusedattn.bench.runner_onnxruntime import Runner

        return Runner()
    from fusedattn.bench.runner import Runner

    return Runner(kind)


def pack(array: np.ndarray) -> dict:
    return {"shape": array.shape, "float32": base64.b64encode(np.ascontiguousarray(array, np.float32)).decode()}


def unpack(packed: dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(packed["float32"]), np.float32).reshape(packed["shape"])


def _cell(fields: dict) -> Cell:
    return Cell(**fields | {"whole": tuple(fields["whole"]) if fields["whole"] else None})


def _answer(runner, request: dict) -> dict:
    what = request["do"]
    if what == "refuses":
        return {what: runner.refuses(_cell(request["cell"]), request["direction"])}
    if what == "prepare":
        runner.prepare(_cell(request["cell"]))
        return {}
    if what == "first_head":
        return {what: {name: pack(x) for name, x in runner.first_head(request["directions"]).items()}}
    return {what: runner.time(request["direction"], request["calls"])}


def main() -> None:
    """Serves requests until its input ends. Anything printed by others goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    runner = runner_of(sys.argv[1])
    answers.write("{}\n")
    answers.flush()
    for line in sys.stdin:
        try:
            answer = _answer(runner, json.loads(line))
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
