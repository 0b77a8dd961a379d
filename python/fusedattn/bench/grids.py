"""grids.py: lists of cells: those that the goals speak of, the full grid, and what a user names."""

from __future__ import annotations

from collections.abc import Iterable

from fusedattn import info
from fusedattn.bench import goals
from fusedattn.bench.cells import Cell, parse

DIRECTIONS = ("forward", "backward")
Job = tuple[Cell, str]  # a cell in one direction

# A forward of a cell of the full grid has at most so many operations, or one key head: 0.05 s on a core of 100 GFLOP/s.
# Heads are independent, so fewer of them measure the same.
_FULL_FLOPS = 5e9

_SQUARES = ("1,8,4096,128", "4,32,2048,64", "8,16,512,128", "8,16,512,64", "4,4,2048,64")
_MODELS = (
    "8,12,384,64:padding",  # BERT-base
    "4,16,197,64",  # ViT-L
    "4,16,577,64",
    "64,4,49,32",  # Swin
    "1,20,1500,64",  # Whisper-large, encoder
    "2,10,4096,64",  # a diffusion model, to itself
    "2,10,4096x77,64",  # and to its text
    "1,32:8,2048,128:causal",  # Llama-3-8B
    "2,14:2,2048,64:causal",  # Qwen2.5-0.5B
    "1,8:4,4096,256:causal",  # Gemma-2
    "1,16,2048,256:causal",  # GPT-J
    "1,8:1,4096,128:causal",
)
_WIDE = ("1,2,2048,256", "1,2,1024,512", "1,1,1024,768")
_MASKED = ("1,4,4096,64:band", "1,4,4096,128:band", "1,4,4096,64:dropout", "1,4,4096,64:causal:dropout")
_ODD = ("1,8,511,64", "1,8,513,64", "1,8,1000,40", "1,8,1000,72", "1,8,1000,80", "1,8,1000,96", "1,8,1000,112")
_DECODING = ("1,32:8,1x4096,128", "1,32:8,1x32768,128", "1,8,8x4096,128", "1,8,8x32768,128", "1,32:8,8x32768,128")
_SMALL = ("1,1,16,64", "1,8,64,64")


def select(names: Iterable[str], dtypes: list[str], threads: int, directions: tuple[str, ...]) -> list[Job]:
    """The jobs of "goals", "full" or shapes such as "1,8,4096,128:causal", each once."""
    jobs: list[Job] = []
    for name in names:
        if name == "goals":
            jobs += [job for job in goals.jobs(max(threads, info.usable_cpus())) if job[0].dtype in dtypes and job[1] in directions]
        elif name == "full":
            jobs += _full(dtypes, threads, directions)
        else:
            jobs += [(cell, direction) for cell in parse(name, dtypes, threads) for direction in directions]
    return list({(cell.name(), cell.dtype, cell.threads, direction): (cell, direction) for cell, direction in reversed(jobs)}.values())[::-1]


def _full(dtypes: list[str], threads: int, directions: tuple[str, ...]) -> list[Job]:
    texts = [text + mask for text in _SQUARES for mask in ("", ":causal")]
    trained = [cell for text in (*texts, *_MODELS, *_WIDE, *_MASKED, *_ODD, *_SMALL) for cell in parse(text, dtypes, threads)]
    decoded = [cell for text in _DECODING for cell in parse(text, dtypes, threads)]
    jobs = [(cell.cut(_FULL_FLOPS), direction) for cell in trained for direction in directions]
    return jobs + [(cell, "forward") for cell in decoded if "forward" in directions]
