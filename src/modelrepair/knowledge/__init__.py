"""What does a model hold of facts, and what moves its parameters so that it holds another?

Contrastive assessment of facts, and what edits them: a hyper-network that has learned to, or one solve. Imports
`additions`, `models`, `pipeline` and `data`.
"""
