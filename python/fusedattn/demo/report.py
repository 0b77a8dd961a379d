"""What the demonstration prints: lines, and on a terminal a progress bar below them."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fusedattn.demo.encoder import EMBEDDING_TOLERANCE, GRADIENT_TOLERANCE, Outcome
from fusedattn.demo.golden import Error
from fusedattn.demo.measure import Result
from fusedattn.demo.speed import Timing

LEGEND = """\
    columns: median time of all heads; share of the limit that the probe measures before and after;
    time of torch's scaled_dot_product_attention over ours (~: sampled on fewer heads and scaled up);
    largest error against float64 | that of the same formula by torch's small operators in the 16-bit type,
    on 1 to 4 whole heads of a case. Some rows and columns of all other heads are checked as well."""

TYPES = {"torch.float16": "fp16", "torch.bfloat16": "bf16"}


class Report:
    """Lines as they come, and on a terminal progress over `steps` steps. A context manager."""

    def __init__(self, steps: int, console: Console | None = None):
        self.console = console or Console()
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar = Progress(
            *columns,
            console=self.console,
            transient=True,
            refresh_per_second=2,
            disable=not self.console.is_terminal,
        )
        self._task = self._bar.add_task("", total=steps)

    def __enter__(self) -> Report:
        self._bar.start()
        return self

    def __exit__(self, *failure) -> None:
        self._bar.stop()

    def begin(self, what: str) -> None:
        """Names the step that starts now."""
        self._bar.update(self._task, description=what)

    def done(self) -> None:
        self._bar.advance(self._task)

    def line(self, text: str = "", style: str | None = None) -> None:
        self.console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def lines(self, texts: list[str], good: bool) -> None:
        for text in texts:
            self.line(text, None if good else "bold red")


def cell_name(case, dtype, causal: bool) -> str:
    shape = ",".join(str(n) for n in case.shape)
    return f"{case.id} [{shape}] {TYPES[str(dtype)]} {'causal' if causal else 'full'}"


def cell_lines(result: Result) -> list[str]:
    """Forward and backward, each with time, share of the limit, ratio to torch, and error | rival's error."""
    name = cell_name(result.case, result.dtype, result.causal)
    out, *gradients = (_error(error) for error in result.errors)
    lines = [
        f"{name:<29} forward  {_timing(result.forward)}  {out}",
        f"{'':<29} backward {_timing(result.backward)}  {'  '.join(gradients)}",
    ]
    return lines + [f"{'':<29} FAILED   {sentence}" for sentence in result.failures]


def outcome_lines(outcome: Outcome) -> list[str]:
    """What the encoder showed, nearest sentences included."""
    said = "holds" if outcome.embeddings_hold else "FAILED"
    tuned = "holds" if outcome.gradients_hold else "FAILED"
    return [
        f"{outcome.sentences} sentences, {outcome.tokens} tokens, {outcome.padded} of them padding",
        f"embeddings differ from the eager model's by at most {outcome.embedding_distance:.1e} "
        f"(allowed {EMBEDDING_TOLERANCE:.0e}): {said}",
        "nearest sentences:",
        *(f"  {cosine:.3f}  {first}\n         {second}" for cosine, first, second in outcome.neighbours),
        f"one fine-tuning step: loss {outcome.losses[0]:.5f} -> {outcome.losses[1]:.5f} "
        f"(eager {outcome.eager_losses[0]:.5f} -> {outcome.eager_losses[1]:.5f})",
        f"gradients of {outcome.parameters} parameters differ by at most {outcome.gradient_distance:.1e} "
        f"of their norm (allowed {GRADIENT_TOLERANCE:.0e}): {tuned}",
    ]


def _timing(timing: Timing) -> str:
    ratio = f"{timing.ratio:.1f}x" if timing.ratio < 100 else f"{timing.ratio:.0f}x"
    return f"{_seconds(timing.seconds)} {timing.share:5.0%} {ratio:>6}{'~' if timing.sampled else ' '}"


def _seconds(seconds: float) -> str:
    return f"{seconds:6.2f} s " if seconds >= 1 else f"{seconds * 1e3:6.1f} ms"


def _error(error: Error) -> str:
    return f"{error.name} {error.ours:.1e} | {error.rival:.1e}"
