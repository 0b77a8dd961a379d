"""Reads compiled code with objdump: which functions use vector extensions, and what their innermost loops touch."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

HEADER = re.compile(r"^([0-9a-f]+) <(.+)>:$")
LINE = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
LANE = re.compile(r"^_ZZ?N[VK]*9fusedattn(?:8baseline|4avx2|6avx512|11avx512_bf16)")
WIDE = re.compile(r"%[yz]mm\d|%xmm(?:1[6-9]|2\d|3[01])\b|%k[0-7]\b")
BMI = {"andn", "bextr", "blsi", "blsr", "blsmsk", "mulx", "pdep", "pext", "rorx", "sarx", "shlx", "shrx"}
NOT_VEX = {"verr", "verw"}


@dataclass
class Instruction:
    address: int
    name: str
    operands: str

    @property
    def is_vex(self) -> bool:
        """Needs AVX or BMI: such instructions exist only in VEX or EVEX encoding."""
        name = self.name
        return (name.startswith("v") and name not in NOT_VEX) or name in BMI or bool(WIDE.search(self.operands))


@dataclass
class Function:
    name: str
    body: list[Instruction] = field(default_factory=list)

    @property
    def lane(self) -> str:
        """The lane whose namespace this function is in, "" for none."""
        match = re.match(r"^_ZZ?N[VK]*9fusedattn\d+(baseline|avx512_bf16|avx512|avx2)", self.name)
        return match[1] if match and LANE.match(self.name) else ""

    @property
    def frame_registers(self) -> tuple[str, ...]:
        """Registers that address this function's own stack."""
        sets_frame = any(i.name == "mov" and i.operands.replace(" ", "") == "%rsp,%rbp" for i in self.body)
        return ("%rsp", "%rbp") if sets_frame else ("%rsp",)

    def innermost_loops(self) -> list[list[Instruction]]:
        """Bodies of the backward jumps that contain no other backward jump."""
        at = {instruction.address: n for n, instruction in enumerate(self.body)}
        spans = []
        for n, instruction in enumerate(self.body):
            target = re.match(r"([0-9a-f]+)\b", instruction.operands)
            if instruction.name.startswith("j") and target and at.get(int(target[1], 16), n + 1) <= n:
                spans.append((at[int(target[1], 16)], n))
        inner = [s for s in spans if not any(o != s and s[0] <= o[0] and o[1] <= s[1] for o in spans)]
        return [self.body[first : last + 1] for first, last in inner]


def functions(path: Path) -> list[Function]:
    """Every function of an object file or library, by its mangled name."""
    text = subprocess.run(
        [os.environ.get("OBJDUMP", "objdump"), "-d", "--no-show-raw-insn", str(path)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found: list[Function] = []
    for line in text.splitlines():
        if header := HEADER.match(line):
            found.append(Function(header[2]))
        elif found and (match := LINE.match(line)):
            found[-1].body.append(Instruction(int(match[1], 16), match[2], match[3].split("#")[0].strip()))
    return found


def spills(function: Function, loop: list[Instruction]) -> list[Instruction]:
    """Vector instructions of a loop that load from or store to the function's stack, broadcasts of scalars aside."""
    stack = tuple(f"({register}" for register in function.frame_registers)
    return [
        i
        for i in loop
        if re.search(r"%[xyz]mm", i.operands)
        and any(base in i.operands for base in stack)
        and "broadcast" not in i.name
        and "{1to" not in i.operands
    ]
