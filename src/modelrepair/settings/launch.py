"""How stages are started, which is no part of what they compute."""

from __future__ import annotations

from modelrepair.settings import Count, Settings


class LaunchSettings(Settings):
    """Of the stages that pass over examples."""

    processes: Count = 1
    """So many processes on this machine share what such a stage does; MODELREPAIR_PROCESSES in the environment takes
    the place of it. Results are those of one, so no stage runs again when it changes."""
