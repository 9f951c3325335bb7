"""What is the gradient of each example, without one backward pass for each?

Gradients as the products of layers' inputs and output gradients, held or computed again, and products with matrices
made of them. Imports `models`.
"""
