"""How is a base model trained, and how is that training gone through again?

Training from scratch, its exact replay and the adjoint of its steps. Imports `training` and what stands below it.
"""
