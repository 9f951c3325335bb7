"""What was found, what was repaired, what broke? Numbers and pictures of one `Evidence`.

Imports `models`, in `evidence` alone, and from `pipeline` only how files are written; no other room.
"""
