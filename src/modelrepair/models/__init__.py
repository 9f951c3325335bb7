"""What is a trained model, and what does it say of examples?

Examples, likelihoods, models, and the pipeline's artefacts as such objects. Imports `networks`, `data` and `pipeline`.
"""
