"""How does a project of the user's own begin, and how does it see that the code has changed?

Its pipeline is made of the one that comes with the package. Imports `sources`, `pipeline` and `settings`.
"""
