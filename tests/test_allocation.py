"""What is freed is used again, in a process of its own, because the setting is one of the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
import torch
from modelrepair import keep_freed_memory

if sys.argv[1] == "kept":
    assert keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    [torch.ones(10 * 2**20) for _ in range(2)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is one of glibc")
def test_freed_blocks_are_kept() -> None:
    """Two blocks of 40 MiB have 20,480 pages, which are met anew each time unless they are kept.

    Blocks of more than 32 MiB, because up to there glibc learns by itself to keep some.
    """
    faults = {}
    for how in ("default", "kept"):
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        faults[how] = int(done.stdout)
    assert faults["kept"] < faults["default"] / 2
