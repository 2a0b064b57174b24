"""The message FrameLatency, made and read, as pure functions."""
from __future__ import annotations

import math
from array import array
from collections.abc import Sequence

from crossspec_ros.msg import FrameLatency
from crossspec_ros.pipeline.account import Balance
from crossspec_ros.pipeline.frame_latency import StageAges
from crossspec_ros.view.record import CameraInput


def frame_latency_to(stages: Sequence[StageAges], balance: Balance, offset_ns: int | None) -> FrameLatency:
    """The message of what was measured; the caller says who and where."""
    return FrameLatency(
        stages=[each.stage for each in stages], counts=array('I', [each.count for each in stages]),
        p50_ms=array('f', [each.p50_ms for each in stages]), p95_ms=array('f', [each.p95_ms for each in stages]),
        p99_ms=array('f', [each.p99_ms for each in stages]),
        offset_ms=math.nan if offset_ns is None else offset_ns / 1e6,
        received=balance.received, lost=balance.lost, used=balance.used, waiting=max(0, balance.waiting),
        dropped_causes=list(balance.dropped), dropped=array('Q', balance.dropped.values()))


def frame_latency_from(message: FrameLatency) -> CameraInput:
    """What a node tells of one of its inputs."""
    return CameraInput(
        node=message.node, input=message.input, topic=message.topic, stamps=message.stamps,
        offset_ms=None if math.isnan(message.offset_ms) else round(message.offset_ms, 2),
        stage_ms={stage: {'n': count, 'p50': round(p50, 2), 'p95': round(p95, 2), 'p99': round(p99, 2)}
                  for stage, count, p50, p95, p99 in zip(message.stages, message.counts, message.p50_ms, message.p95_ms,
                                                         message.p99_ms)},
        received=message.received, lost=message.lost, used=message.used, waiting=message.waiting,
        dropped=dict(zip(message.dropped_causes, message.dropped)), deadline_ms=round(message.deadline_ms, 1),
        deadline_requested=message.deadline_requested, deadlines_missed=message.deadlines_missed,
        gaps_missed=message.gaps_missed)
