"""How is a model trained?

The one descent loop, and base training with it. Imports `models`, `data` and `pipeline`.
"""
