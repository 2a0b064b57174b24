"""From parameters to a working pipeline: models loaded, proposer and engine made. Shared by the nodes and the replay.

Models are imported where they are needed only: a process that drafts does not pay for the verifier's libraries.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from crossspec_ros.config import DEFAULT_PROMPT, DrafterConfig, QualifierConfig, VerifierConfig
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.speculation.settings import EngineConfig

if TYPE_CHECKING:
    from crossspec_ros.frames.history import FrameHistory
    from crossspec_ros.pipeline.account import Account
    from crossspec_ros.pipeline.drafting import DraftingPipeline
    from crossspec_ros.pipeline.qualifying import QualifyingPipeline
    from crossspec_ros.pipeline.verifying import VerifyingPipeline
    from crossspec_ros.speculation.constraint import Constraint
    from crossspec_ros.speculation.engine import CaptionEngine
    from crossspec_ros.speculation.sources.base import DraftSource
    from crossspec_ros.speculation.target import Target


def build_drafting(config: DrafterConfig, prompt: str = '', account: Account | None = None) -> DraftingPipeline:
    """Load the drafter and warm it up. Raises CrossSpecError where the checkpoint is not there or does not fit."""
    from crossspec_ros.models.drafters.load import load_any_drafter
    from crossspec_ros.pipeline.drafting import DraftingPipeline
    from crossspec_ros.pipeline.threads import ask_threads

    ask_threads('drafter', config.threads)
    drafter = load_any_drafter(config.model, config.device, config.dtype, config.speaks, config.allow_pickle)
    pipeline = DraftingPipeline(
        drafter, config.grid(), prompt or config.prompt or DEFAULT_PROMPT,
        source=config.source, lead_ms=config.lead_ms, grace_ms=config.grace_ms,
        grace_max_ms=config.grace_max_ms, max_tokens=config.max_tokens,
        buffer_bytes=config.buffer_mb << 20, idle_ms=1000 * config.idle_s, redrafts=config.redrafts,
        alternatives=config.alternatives, synchronised=config.event_clock == 'synchronised', account=account,
        speaking=config.speaking())
    pipeline.warm_up()
    return pipeline


def load_model(config: VerifierConfig, whose: str = 'verifier') -> Target:
    """Load the verifier's model, or that of another node, or this process's share of it, where it fits its device;
    nothing is loaded else. Raises CrossSpecError as above.
    """
    from crossspec_ros.models.fit import Serving, check_fit
    from crossspec_ros.models.ranks import torchrun_count
    from crossspec_ros.models.targets import load_target
    from crossspec_ros.pipeline.threads import ask_threads

    ask_threads(whose, config.threads)
    ranks = config.tensor_parallel if config.tensor_parallel > 1 else torchrun_count()
    if ranks > 1 and any(config.heads):
        raise CrossSpecError(f'model.heads must be empty where {ranks} processes share the verifier: heads need the '
                             f'whole of its embeddings and head, got {", ".join(config.heads)}')
    if ranks == 1:
        open_windows = min(1 - (-config.window_frames // config.grid().stride_frames), config.decode.max_windows)
        serving = Serving(config.window_frames, config.decode.max_new_tokens, config.decode.first_nodes, open_windows,
                          prompt=config.prompt or DEFAULT_PROMPT, fps=1000.0 / config.frame_interval_ms)
        check_fit(config.model, serving, config.device, config.dtype, config.quantization, config.trust_remote_code,
                  config.allow_pickle)
    return load_target(config.model, config.device, config.dtype, config.cache, fps=1000.0 / config.frame_interval_ms,
                       max_new_tokens=config.decode.max_new_tokens, trust_remote_code=config.trust_remote_code,
                       allow_pickle=config.allow_pickle, quantization=config.quantization, ranks=ranks)


def follow() -> int:
    """Be one of the processes that torchrun has started and rank 0 leads, until it ends; the exit code."""
    from crossspec_ros.models.targets.following import main

    return main()


def build_engine(config: VerifierConfig, target: Target | None = None) -> CaptionEngine:
    """The verifier, with the draft sources that its vocabulary allows and the heads that are named; loaded where no
    ``target`` is given.

    Raises CrossSpecError as above, and for heads that were trained for another verifier.
    """
    from crossspec_ros.speculation.engine import CaptionEngine

    target = load_model(config) if target is None else target
    return CaptionEngine(target, replace(config.decode, window_frames=config.window_frames),
                         more=_head_sources(config.heads, target))


def _head_sources(folders: Sequence[str], target: Target) -> list[DraftSource]:
    """Heads on the verifier's states as draft sources."""
    if not any(folders):
        return []
    from crossspec_ros.models.heads import load_heads
    from crossspec_ros.speculation.sources.heads import HeadSource

    return [HeadSource(head, target.vocab_size) for head in load_heads(folders, target)]


def build_verifying(config: VerifierConfig, prompt: str = '', *, newest_wins: bool = True,
                    account: Account | None = None, history: FrameHistory | None = None,
                    target: Target | None = None) -> tuple[VerifyingPipeline, CaptionEngine]:
    """Load the verifier, measure it, and set up its windows; ``target``: one that is loaded already.

    Raises CrossSpecError as above.
    """
    from crossspec_ros.pipeline.verifying import VerifyingPipeline

    engine = build_engine(config, target)
    prompt = prompt or config.prompt or DEFAULT_PROMPT
    _warm_up(engine, config, prompt)
    pipeline = VerifyingPipeline(engine, config.grid(), prompt, frame_grace_ms=config.frame_grace_ms,
                                 frame_grace_max_ms=config.frame_grace_max_ms, queue=config.frame_queue,
                                 timeout_ms=config.timeout_ms, newest_wins=newest_wins, account=account,
                                 history=history, speaking=config.speaking())
    return pipeline, engine


def build_qualifying(config: QualifierConfig, prompt: str = '', account: Account | None = None, hurried: bool = True
                     ) -> QualifyingPipeline:
    """Load the middle model, measure it, and set up its windows; ``hurried`` as the pipeline has it.

    Raises CrossSpecError as above.
    """
    from crossspec_ros.pipeline.qualifying import Look, QualifyingPipeline, words_of

    look = Look(config.look(), config.grid().stride_ns, config.lead_ms, config.yield_ms)
    own = VerifierConfig(
        window_frames=look.grid.window_frames, frame_interval_ms=look.grid.frame_interval_ms,
        stride_frames=look.grid.stride_frames, model=config.model, device=config.device, dtype=config.dtype,
        cache=config.cache, trust_remote_code=config.trust_remote_code, allow_pickle=config.allow_pickle,
        threads=config.threads, decode=EngineConfig(max_new_tokens=config.max_tokens, rehearse_missing=0),
        frame_grace_ms=config.frame_grace_ms, frame_grace_max_ms=config.frame_grace_max_ms,
        frame_queue=config.frame_queue)
    target = load_model(own, 'qualifier')
    pipeline, engine = build_verifying(own, prompt or config.prompt, account=account, target=target)
    return QualifyingPipeline(pipeline, engine, look, source=config.source, words=words_of(config.speaks, target),
                              hurried=hurried)


def constraint_of(engine: CaptionEngine, form: str) -> Constraint | None:
    """A form of its text for the engine's model; None for an empty one. Raises CrossSpecError for what is no form."""
    from crossspec_ros.models.forms import GrammarConstraint, parse_form

    parsed = parse_form(form)
    return None if parsed is None else GrammarConstraint(parsed, engine.target)


def _warm_up(engine: CaptionEngine, config: VerifierConfig, prompt: str) -> None:
    """Warm the engine up; what a forward costs is measured once for a checkpoint, prompt and number of threads."""
    import torch

    from crossspec_ros.models.remembered import keep, recall

    folder = engine.target.adapter.parts.folder
    settings = {'prompt': prompt, 'frames': config.window_frames, 'device': config.device, 'dtype': config.dtype,
                'cache': config.cache, 'quantization': config.quantization, 'threads': torch.get_num_threads(),
                'nodes': config.decode.first_nodes, 'processes': engine.target.processes}
    kept = recall(folder, 'costs', **settings)
    known = {int(count): cost_ms for count, cost_ms in kept.items()} if isinstance(kept, dict) else None
    costs = engine.warm_up(prompt, known=known)
    if known is None:
        keep(folder, 'costs', {str(count): cost_ms for count, cost_ms in costs.items()}, **settings)
