"""Who may see which example?

* **reserved**: a clean set for the methods that need one.
* **discovery**: where failures are found; treatments may watch their accuracy on it.
* **assessment**: where everything that is reported is measured; no method ever sees it.

Imports `data`, and no torch.
"""
