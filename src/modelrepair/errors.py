"""The one exception that modelrepair raises on purpose, and what is refused wherever a user brings files."""

from __future__ import annotations

from pathlib import Path

PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
"""How the names of files of weights end that Python's pickle reads, which does what they say."""


class RepairError(Exception):
    """What a user can mend: one sentence that says what was given, what was expected and what to do.

    A stage prints its text alone, without a traceback, and exits with status 1.
    """


def refuse_pickle(path: str) -> None:
    """Weights are read as safetensors alone.

    Raises:
        RepairError: if the file's name is that of a pickle; it holds the command that writes, for one who trusts what
            `torch.save(network.state_dict(), …)` wrote, safetensors of it.
    """
    if path.endswith(PICKLES):
        converted = Path(path).with_suffix(".safetensors").as_posix()
        raise RepairError(
            f"{path} could run code as it is read: give its weights as safetensors, which, if you trust it, "
            f'python -c "import safetensors.torch, torch; safetensors.torch.save_file(torch.load({path!r}, '
            f'weights_only=True), {converted!r})" writes'
        )
