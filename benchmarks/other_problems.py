"""Which problems `other_data.py` is about: what the tables of its results need to know, without torch."""

from __future__ import annotations

KEYS = ["data", "network", "labels", "method", "metric"]
EPOCHS = {"linear": 40, "narrow": 40, "wide": 100}
SEEDS = {"development": (100, 101), "report": (0, 1, 2)}
RATES = {"development": {"any": 0.2, "two classes": 0.4}, "report": {"any": 0.15, "two classes": 0.3}}
DATA = {
    "development": ("digits", "five made classes"),
    "report": ("digits", "cell nuclei", "six made classes"),
}
MADE = {
    "five made classes": {"n_classes": 5, "n_features": 20, "n_informative": 12, "class_sep": 1.2},
    "six made classes": {"n_classes": 6, "n_features": 30, "n_informative": 15, "class_sep": 1.5},
}
