"""What a call of the attention functions must satisfy, and the exception of each fault: one table.

Rows of their own are checked here. The others belong to the operator behind every Ascend door; for them the
table says which exception they are in MindSpore. Whatever is not listed is a RuntimeError.
"""

from collections.abc import Callable
from typing import NamedTuple

from ..ascend import BackwardPlan, ForwardPlan, Refusal, Request, backward_plan, forward_plan
from ..ascend.facts import Facts
from .rules_arguments import ROWS as ARGUMENTS
from .rules_arguments import Arguments
from .rules_shapes import ROWS as SHAPES


class Constraint(NamedTuple):
    """One row: id, exception, what passes in words, the sentence about what is there instead (or None)."""

    id: str
    exception: type[Exception]
    accepted: str
    violated: Callable[[object], str | None]

    def check(self, subject) -> None:
        sentence = self.violated(subject)
        if sentence is not None:
            raise self.exception(f"{sentence}; accepted: {self.accepted}")


OF_ARGUMENTS = tuple(Constraint(*row) for row in ARGUMENTS)
OF_SHAPES = tuple(Constraint(*row) for row in SHAPES)
OF_THE_OPERATOR = {
    "layout.known": ValueError,
    "dtype.float": TypeError,
    "dtype.same": TypeError,
    "dtype.pse": TypeError,
    "dtype.slopes": TypeError,
    "mask.dtype": TypeError,
    "dropout.dtype": TypeError,
}


def check_arguments(arguments: Arguments) -> None:
    """Types, and values that can be judged without the shapes."""
    for row in OF_ARGUMENTS:
        row.check(arguments)


def planned(request: Request) -> ForwardPlan:
    """The plan of a forward call that passed the operator's checks and those of its MindSpore function."""
    plan = _made(forward_plan, request)
    if request.door == "mindspore":
        facts = Facts(request, backward=False)
        for row in OF_SHAPES:
            row.check(facts)
    return plan


def gradient_plan(request: Request) -> BackwardPlan:
    """The plan of the gradient of a call that was planned before."""
    return _made(backward_plan, request)


def _made(make_plan, request: Request):
    try:
        return make_plan(request)
    except Refusal as refusal:
        raise OF_THE_OPERATOR.get(refusal.row, RuntimeError)(str(refusal)) from None
