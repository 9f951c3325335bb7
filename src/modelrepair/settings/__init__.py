"""What may be set, and what does each setting mean?

Every section of `params.yaml` is described here once: names, types, bounds, defaults, documentation. From these
descriptions come the checks before anything runs, the messages, a JSON schema for editors, and the options of the
families' members, whose classes inherit them. Imports `errors` alone, and no torch.
"""
