"""What was found, what was repaired, what broke? Numbers, pictures and the page of one `Evidence`.

Imports `models`, in `evidence` and `links` alone, `valuation`, in `links`, for the features that a model decides on,
and from `pipeline` only how files are written; no other room.
"""
