"""How this process asks the system for memory."""

from __future__ import annotations

import ctypes

# Names of the settings in glibc's malloc.h, and their values: larger blocks go back to the system when they are freed.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST_KEPT = 64 * 2**20
KEPT_IN_ALL = 256 * 2**20


def keep_freed_memory() -> bool:
    """Let this process keep freed blocks of up to 64 MiB, at most 256 MiB of them, for the next that it needs.

    By default glibc returns large blocks at once. A network's activations are such blocks, allocated and freed in every
    pass, and each time the system clears their pages anew. Programs that run passes on a CPU may call this at their
    start; the pipeline's stages do.

    Returns:
        Whether it took effect; False where the C library is another.
    """
    try:
        settings = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(settings(MMAP_THRESHOLD, LARGEST_KEPT) and settings(TRIM_THRESHOLD, KEPT_IN_ALL))
