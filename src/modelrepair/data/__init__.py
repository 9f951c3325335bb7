"""What is a class, and what is drawn at random?

Class names and numbers, label columns, random streams. Imports `errors`, and no torch.
"""
