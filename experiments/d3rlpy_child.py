"""One run of d3rlpy's TD3+BC or IQL, in its own environment: `python d3rlpy_child.py SETTINGS.json OUT.json`.

Imports nothing of ours. Writes the held-out returns of the untrained and of the trained policy. The data come as arrays
(.npz). d3rlpy leaves out the last decision of an episode that was cut, whose next observation it does not keep.
"""

import json
import os
import sys
import time
from pathlib import Path


def main() -> None:
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    out = Path(sys.argv[2])
    import d3rlpy
    import gymnasium
    import numpy as np
    import torch

    torch.set_num_threads(1)
    d3rlpy.seed(asked["seed"])
    with np.load(asked["data"]) as log:
        data = d3rlpy.dataset.MDPDataset(
            log["observation"], log["action"], log["reward"], log["terminated"], log["truncated"]
        )
    encoder = d3rlpy.models.VectorEncoderFactory(asked["hidden"])
    shared = {
        "batch_size": asked["batch"],
        "actor_encoder_factory": encoder,
        "critic_encoder_factory": encoder,
        "observation_scaler": d3rlpy.preprocessing.StandardObservationScaler() if asked["normalise"] else None,
    }
    if asked["method"] == "td3-bc":
        config = d3rlpy.algos.TD3PlusBCConfig(**shared)
    else:
        scaler = d3rlpy.preprocessing.ReturnBasedRewardScaler(multiplier=1000.0)
        config = d3rlpy.algos.IQLConfig(**shared, value_encoder_factory=encoder, reward_scaler=scaler)
    model = config.create(device="cpu:0")
    model.build_with_dataset(data)  # fits the scalers

    def judged() -> list[float]:
        held_out, returns = gymnasium.make(asked["env_id"]), []
        for seed in asked["held_out"]:
            observation, _ = held_out.reset(seed=seed)
            total, over = 0.0, False
            while not over:
                action = model.predict(np.asarray(observation, np.float32)[None])[0]
                observation, reward, terminated, truncated, _ = held_out.step(action)
                total += float(reward)
                over = terminated or truncated
            returns.append(total)
        return returns

    for scaling in (config.observation_scaler, config.reward_scaler):
        if scaling is not None and not scaling.built:
            scaling.fit_with_transition_picker(data.episodes, data.transition_picker)
    start = judged()
    began = time.perf_counter()
    model.fit(
        data,
        n_steps=asked["steps"],
        n_steps_per_epoch=asked["steps"],
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
        show_progress=False,
    )
    seconds = time.perf_counter() - began
    found = {
        "seed": asked["seed"],
        "start": start,
        "final": judged(),
        "decisions": 0,
        "seconds": seconds,
        "versions": {
            "d3rlpy": d3rlpy.__version__,
            "gymnasium": gymnasium.__version__,
            "torch": torch.__version__,
        },
    }
    aside = out.with_suffix(".part")
    aside.write_text(json.dumps(found), encoding="utf-8")
    os.replace(aside, out)


if __name__ == "__main__":
    main()
