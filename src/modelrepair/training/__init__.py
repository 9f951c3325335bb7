"""How does a model learn?

The one descent loop, what an epoch is made of, and what is kept of a course. Imports `models`, `data` and `pipeline`.
"""
