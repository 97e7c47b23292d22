"""One run of Stable-Baselines3, in its own environment: `python sb3_child.py SETTINGS.json OUT.json`.

Imports nothing of ours. Writes the held-out returns of the untrained and of the trained policy.
"""

import json
import os
import sys
import time
from pathlib import Path


def main() -> None:
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    out = Path(sys.argv[2])
    import gymnasium
    import stable_baselines3
    import torch
    from stable_baselines3.common.monitor import Monitor

    torch.set_num_threads(1)
    env = Monitor(gymnasium.make(asked["env_id"]))
    # every hyper-parameter that is not set its default
    made, settings = getattr(stable_baselines3, asked.get("method", "PPO")), asked.get("settings", {})
    model = made("MlpPolicy", env, seed=asked["seed"], device="cpu", **settings)

    def judged() -> list[float]:
        held_out, returns = gymnasium.make(asked["env_id"]), []
        for seed in asked["held_out"]:
            observation, _ = held_out.reset(seed=seed)
            total, over = 0.0, False
            while not over:
                action, _ = model.predict(observation, deterministic=True)
                observation, reward, terminated, truncated, _ = held_out.step(action)
                total += float(reward)
                over = terminated or truncated
            returns.append(total)
        return returns

    start = judged()
    began = time.perf_counter()
    model.learn(asked["decisions"])
    seconds = time.perf_counter() - began
    found = {
        "seed": asked["seed"],
        "start": start,
        "final": judged(),
        "decisions": int(model.num_timesteps),
        "seconds": seconds,
        "versions": {
            "stable-baselines3": stable_baselines3.__version__,
            "gymnasium": gymnasium.__version__,
            "torch": torch.__version__,
        },
    }
    aside = out.with_suffix(".part")
    aside.write_text(json.dumps(found), encoding="utf-8")
    os.replace(aside, out)


if __name__ == "__main__":
    main()
