"""The steps of a repair by themselves, as functions of the library; with random data, so that it runs as it stands.

python examples/step_by_step.py
"""

import numpy as np

from modelrepair import (
    Delete,
    Descent,
    ElasticWeightConsolidation,
    Examples,
    Investigation,
    NaturalGradient,
    Patient,
    Softmax,
    TrainedModel,
    fit_curvature,
    influence_scores,
    make_network,
    train,
)

rng = np.random.default_rng(0)
inputs, labels = rng.integers(0, 256, (300, 1, 28, 28), dtype=np.uint8), rng.integers(0, 10, 300)
examples, test = Examples(inputs[:200], labels[:200]), Examples(inputs[200:], labels[200:])
model = TrainedModel(make_network("lenet5", (1, 28, 28), 10, seed=0), Softmax())  # or any torch.nn.Module
train(model, examples, Descent(learning_rate=1e-3, rounds=3), batch_size=64, seed=0)
failures = test.subset(model.correct(test).cpu().numpy() == 0)

fisher = {name: fit_curvature(name, model, examples) for name in ("diagonal", "gram")}
updated = (
    ElasticWeightConsolidation(rounds=5)
    .insert(model, failures, curvature=fisher["diagonal"].damped(1e-3), count=len(examples))
    .model
)
scores = influence_scores(Investigation(model, updated, examples), "loss-change")
causes = np.argsort(-scores)[:20]
patient = Patient(
    model,
    examples,
    causes,
    discovery=test,
    failures=failures,
    curvature=lambda name, damping: fisher[name].damped(damping),
)
repaired = (
    Delete(posterior=NaturalGradient(epsilon=1.0), curvature="gram", damping=0.1, remaining="equal")
    .treat(patient)
    .model
)
