"""What a call must satisfy: one table, in the order in which the device finds fault."""

import warnings
from collections.abc import Callable
from typing import NamedTuple

from .facts import Facts
from .refusal import Refusal
from .request import Request
from .rules_arguments import ROWS as ARGUMENTS
from .rules_dropout import ROWS as DROPOUT
from .rules_masks import ROWS as MASKS
from .rules_pse import ROWS as PSE
from .rules_rope import ROWS as ROPE
from .rules_shapes import ROWS as SHAPES
from .rules_statistics import ROWS as STATISTICS


class Constraint(NamedTuple):
    """One row of the table.

    id: area and name. forward, backward: the kind of the failure (refusal.py), None where the direction does
    not check it. accepted: what passes, in words (braces name the facts f and the request r), or a function
    of the facts that says it. violated: the sentence about what is there instead, or None.
    """

    id: str
    forward: str | None
    backward: str | None
    accepted: str | Callable[[Facts], str]
    violated: Callable[[Facts], str | None]

    @property
    def area(self) -> str:
        return self.id.split(".")[0]

    def passes(self, facts: Facts) -> str:
        """What would have been accepted in this call."""
        if callable(self.accepted):
            return self.accepted(facts)
        return self.accepted.format(f=facts, r=facts.request)


TABLE = tuple(Constraint(*row) for row in (*ARGUMENTS, *ROPE, *SHAPES, *MASKS, *PSE, *DROPOUT, *STATISTICS))

# What is not looked at where there is no score to mask, shift or drop; with TND it needs the lengths.
_OF_SCORES = frozenset(("mask", "tokens", "prefix", "pse", "dropout"))
_OF_LENGTHS = _OF_SCORES | {"sequences"}


def check(request: Request, backward: bool, lengths_known: bool = True) -> Facts:
    """The facts of a request that satisfies every row; Refusal of the first that it does not.

    lengths_known=False: actual_seq_* stand for numbers that cannot be read yet, which rows may need: not
        looked at.
    """
    facts = Facts(request, backward)
    for row in TABLE:
        kind = row.backward if backward else row.forward
        if kind is None or (row.area in _OF_SCORES and facts.sees_nothing):
            continue
        if not lengths_known and facts.packed and row.area in _OF_LENGTHS:
            continue
        sentence = row.violated(facts)
        if sentence is not None:
            raise Refusal(kind, row.id, f"{sentence}; accepted: {row.passes(facts)}")
    return facts


def cautions(facts: Facts) -> tuple[str, ...]:
    """Sentences about what is computed, but is not what the caller may think."""
    request, found = facts.request, []
    for name, clamped in (("pre_tockens", facts.pre), ("next_tockens", facts.next)):
        if getattr(request, name) != clamped:
            found.append(f"{facts.spelled(name)} is {getattr(request, name)}; it is clamped to 32 bits")
    if facts.packed and facts.B > 20000:
        found.append(f"{facts.spelled('actual_seq_qlen')} has {facts.B} entries; devices take up to 20000")
    most = 1024 if facts.packed else 2048
    if request.prefix is not None and len(request.prefix) > most:
        found.append(f"prefix has {len(request.prefix)} entries; devices take up to {most}")
    if request.softmax_layout not in ("", "same_as_input"):
        found.append(
            f"{facts.spelled('softmax_layout')} is {request.softmax_layout!r}, which is taken as ''; known are"
            " '' and 'same_as_input'"
        )
    return tuple(found)


def warn(sentences: tuple[str, ...]) -> None:
    for sentence in sentences:
        warnings.warn(sentence, stacklevel=5)
