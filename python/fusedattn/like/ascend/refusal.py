"""How the Ascend operators say no: a sentence, and the kind of failure that status codes tell apart."""

NULL, VALUE, TILING = "null", "value", "tiling"
STATUS = {NULL: 161001, VALUE: 161002, TILING: 561002}


class Refusal(ValueError):
    """A call that the contract does not allow. Doors turn it into the exception of their framework.

    kind: NULL (a required argument is missing), VALUE (a dtype, layout or dimension), or TILING (all that the
        device finds when it plans the call). status: the device's number for it.
    row: the id of the constraint in constraints.TABLE. str(refusal) names the argument, its value, what is
        accepted.
    """

    def __init__(self, kind: str, row: str, sentence: str):
        super().__init__(sentence)
        self.kind, self.row = kind, row

    @property
    def status(self) -> int:
        return STATUS[self.kind]
