"""A table and a linear model: rows of which one side was called by the other's name at times.

python examples/linear_model.py     # a second; the breast cancer table that comes with scikit-learn
"""

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import modelrepair

table = load_breast_cancer(as_frame=True)
draw = np.random.default_rng(0)
rows = StandardScaler().fit_transform(table.data)
labels = table.target_names[table.target.to_numpy()]
order = draw.permutation(len(rows))
train, test = order[:300], order[300:]

# A third of the malignant are called benign by mistake, which nobody knows.
given = labels[train].copy()
mistaken = (given == "malignant") & (draw.random(len(train)) < 0.33)
given[mistaken] = "benign"
model = LogisticRegression(C=0.1).fit(rows[train], given)

# What it gets wrong is seen on one half of the other rows; the other half measures the repair.
result = modelrepair.repair(model, (rows[train], given), None, (rows[test], labels[test]), method="mend")

worst = np.argsort(-result.scores)[:5]
print("most harmful:", ", ".join(f"row {train[row]} ({given[row]})" for row in worst))
print(f"{mistaken[result.causes].mean():.0%} of {len(result.causes)} causes are mistaken")
before, after = (result.measured["repair"][when]["all"] for when in ("before", "after"))
print(f"accuracy of classes on rows that no step has seen: {before:.1%} before, {after:.1%} after")
coefficients = np.abs(result.model.coef_ - model.coef_)[0]
print("coefficients that moved most:", ", ".join(table.feature_names[np.argsort(-coefficients)[:3]]))
