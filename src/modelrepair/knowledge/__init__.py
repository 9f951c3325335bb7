"""What does a model hold of facts, and what moves its parameters so that it holds another?

Contrastive assessment of facts, and the hyper-network of a knowledge editor. Imports `models`, `pipeline` and `data`.
"""
