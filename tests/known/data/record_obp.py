"""Writes obp.json: what the package obp says of a fixed policy on its own logs. In an environment of its own, with

pip install "numpy<2" "pandas<2" scikit-learn scipy matplotlib seaborn tqdm pyyaml mypy_extensions torch
pip install --no-deps --ignore-requires-python obp==0.5.7 pyieoe
python tests/known/data/record_obp.py
"""

import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
from obp.dataset import OpenBanditDataset
from obp.ope import DoublyRobust, InverseProbabilityWeighting, SelfNormalizedInverseProbabilityWeighting

LOGS = (("random", "men"), ("bts", "men"), ("random", "women"), ("bts", "all"))
ESTIMATORS = {
    "inverse propensity": InverseProbabilityWeighting(),
    "self-normalised": SelfNormalizedInverseProbabilityWeighting(),
    "doubly robust": DoublyRobust(),
}


def target_and_prediction(context, position, actions):
    """[n, K] each: a policy and a model of rewards that anyone can write down again."""
    index = np.arange(actions)[None, :]
    place = context @ np.arange(1, context.shape[1] + 1) + 1.3 * position
    logits = np.sin(0.7 * index + place[:, None])
    target = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return target, 0.01 * (1 + np.cos(index + place[:, None]))


def recorded(logger, campaign):
    feedback = OpenBanditDataset(behavior_policy=logger, campaign=campaign).obtain_batch_bandit_feedback()
    target, predicted = target_and_prediction(feedback["context"], feedback["position"], feedback["n_actions"])
    given = {
        "reward": feedback["reward"],
        "action": feedback["action"],
        "pscore": feedback["pscore"],
        "position": np.zeros(feedback["n_rounds"], int),
        "action_dist": target[:, :, None],
        "estimated_rewards_by_reg_model": predicted[:, :, None],
    }
    found = {}
    for name, estimator in ESTIMATORS.items():
        interval = estimator.estimate_interval(**given, alpha=0.05, n_bootstrap_samples=2000, random_state=0)
        found[name] = {
            "value": float(estimator.estimate_policy_value(**given)),
            "bootstrap": [float(interval["95.0% CI (lower)"]), float(interval["95.0% CI (upper)"])],
        }
    facts = {"rounds": feedback["n_rounds"], "actions": feedback["n_actions"], "context": feedback["context"].shape[1],
             "mean reward": float(feedback["reward"].mean())}  # fmt: skip
    return {"logger": logger, "campaign": campaign, **facts, "estimates": found}


if __name__ == "__main__":
    packages = ("obp", "numpy", "pandas", "scikit-learn", "scipy")
    tree = {
        "command": "python tests/known/data/record_obp.py",
        "versions": {"python": platform.python_version()} | {name: version(name) for name in packages},
        "logs": [recorded(*log) for log in LOGS],
    }
    Path(__file__).with_name("obp.json").write_text(json.dumps(tree, indent=1) + "\n")
