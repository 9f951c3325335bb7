"""Somebody asks that their rows be forgotten: a logistic regression without them, in one step instead of a new fit.

python examples/erase_person.py     # a second; the breast cancer table that comes with scikit-learn
"""

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import modelrepair

table = load_breast_cancer()
rows = StandardScaler().fit_transform(table.data)
train, test = slice(0, 400), slice(400, None)
# As if every ten rows were of one person.
person = np.arange(400) // 10
strength = 0.5
model = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit(rows[train], table.target[train])

request = np.flatnonzero(person == 23)
result = modelrepair.repair(
    model,
    (rows[train], table.target[train]),
    None,
    (rows[test], table.target[test]),
    method="erase",
    causes=request,
    reference="retrain",
    # One Newton step (Guo et al. 2020) with the exact Hessian of the loss, whose penalty the damping stands for.
    settings={
        "treatments.erase.curvature": "hessian",
        "treatments.erase.damping": 2 / (strength * 400),
        "treatments.erase.posterior.epsilon": 1.0,
    },
)

# Nothing has to be believed here: the fit without these rows is at hand.
kept = np.setdiff1d(np.arange(400), request)
anew = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit(rows[kept], table.target[kept])
distance = {
    name: float(np.linalg.norm(one.coef_ - anew.coef_))
    for name, one in {"before": model, "after": result.model}.items()
}
print(f"distance of the coefficients to those of a fit without the rows: {distance}")
print(f"accuracy on the erased rows: {result.measured['erasure']['after']['erased']:.0%}")
print(f"accuracy on other rows: {result.measured['repair']['after']['all']:.1%}")
