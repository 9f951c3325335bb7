"""How does a stage run, and how is what it makes kept?

Settings and errors of a stage, artefacts that are written whole or not at all, checkpoints, memory, processes that work
together. Imports `settings` and `errors`, and no torch where one process works alone.
"""
