"""How is all of it called from Python?

`modelrepair.repair`, what it takes for a model and for data, and how it goes on after a kill. Imports every room but
`stages` and `project`.
"""
