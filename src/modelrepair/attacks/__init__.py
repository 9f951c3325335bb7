"""How are inputs changed so that a model takes them for something else?

Imports `models`.
"""

from __future__ import annotations

from modelrepair.attacks.gradient_sign import gradient_sign

__all__ = ["gradient_sign"]
