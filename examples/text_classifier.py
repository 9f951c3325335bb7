"""A classifier of short texts by hashed words, of which some were filed wrongly: who was it, and how does it get right?

python examples/text_classifier.py      # seconds; the texts are made here
"""

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression

import modelrepair

draw = np.random.default_rng(0)
# What customers write about, each subject with words of its own and some that others use too.
SUBJECTS = {
    "billing": "invoice charge refund card payment twice amount receipt bank fee",
    "delivery": "parcel courier late address door tracking box damaged street arrived",
    "account": "password login email locked name reset code profile sign device",
    "returns": "return refund label size exchange send wrong box store receipt",
}
COMMON = "hello please my the order I is was not when can you help again with it"
WORDS = {subject: words.split() for subject, words in SUBJECTS.items()}
NAMES = list(WORDS)


def text(subject: int) -> str:
    """Seven words, one of them of any subject."""
    own, other = WORDS[NAMES[subject]], WORDS[draw.choice(NAMES)]
    return " ".join([*draw.choice(own, 2), draw.choice(other), *draw.choice(COMMON.split(), 4)])


right, answers = draw.integers(0, len(NAMES), (2, 1200))
train_texts, test_texts = (list(map(text, subjects)) for subjects in (right, answers))
# Somebody filed two in five returns under billing, because of the money.
given = right.copy()
misfiled = (right == NAMES.index("returns")) & (draw.random(len(right)) < 0.4)
given[misfiled] = NAMES.index("billing")

hashed = HashingVectorizer(n_features=256, alternate_sign=False, norm="l2")
train, test = (hashed.transform(some).toarray() for some in (train_texts, test_texts))
model = LogisticRegression(max_iter=1000).fit(train, given)

# Linear models need longer steps than params.yaml, which is for networks, says.
longer = {
    "identifications.second-look.posterior.learning_rate": 0.03,
    "treatments.mend.posterior.learning_rate": 0.03,
}
result = modelrepair.repair(model, (train, given), None, (test, answers), settings=longer, classes=NAMES)

found = misfiled[result.causes]
print(f"{len(found)} texts are taken as causes, {found.mean():.0%} of which were misfiled, such as:")
for position in result.causes[:3]:
    print(f"  filed under {NAMES[given[position]]}: {train_texts[position]}")
numbers = result.measured["repair"]
print(f"right: {numbers['before']['all']:.1%} before, {numbers['after']['all']:.1%} after")
