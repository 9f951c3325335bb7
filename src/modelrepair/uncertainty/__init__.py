"""How sure is a posterior of each parameter?

Imports `models`, `data`, `pipeline` and `errors`.
"""
