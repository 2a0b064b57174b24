"""Messages to the core's values and back, as pure functions.

Large arrays are passed as ``array('B')`` or views: assigning a list or an ndarray to a ``uint8[]`` field takes 100 ms a
megabyte, an ``array`` takes 0.05.
"""
from __future__ import annotations

import math
from array import array
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticStatus
from event_camera_msgs.msg import EventPacket
from sensor_msgs.msg import CompressedImage, Image

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.events.types import Packet
from crossspec_ros.frames.encodings import as_bytes, known_encoding
from crossspec_ros.frames.images import PictureReader
from crossspec_ros.frames.slots import Frame
from crossspec_ros.msg import Caption as CaptionMsg
from crossspec_ros.msg import Draft as DraftMsg
from crossspec_ros.msg import SceneChange as SceneChangeMsg
from crossspec_ros.msg import Verdict as VerdictMsg
from crossspec_ros.msg import WindowLatency
from crossspec_ros.nodes.bridge import bridged
from crossspec_ros.speculation.types import Caption, Draft, Mode, Opening, SceneChange, Stage, Verdict
from crossspec_ros.view.record import Diagnostic, Latency

if TYPE_CHECKING:
    from crossspec_ros.recordings.bag import ImageFrame

_NS = 1_000_000_000


def to_ns(stamp: Time) -> int:
    """A stamp in ns."""
    return stamp.sec * _NS + stamp.nanosec


def to_time(stamp_ns: int) -> Time:
    """A stamp from ns."""
    return Time(sec=stamp_ns // _NS, nanosec=stamp_ns % _NS)


def packet_from(message: EventPacket) -> Packet:
    """An event packet; the payload is a view of the message."""
    return Packet(encoding=message.encoding, width=message.width, height=message.height, seq=message.seq,
                  time_base_ns=message.time_base, stamp_ns=to_ns(message.header.stamp),
                  payload=as_bytes(message.events), is_bigendian=message.is_bigendian)


def packet_to(packet: Packet, frame_id: str = 'event_camera') -> EventPacket:
    """The message of an event packet."""
    message = EventPacket(encoding=packet.encoding, width=packet.width, height=packet.height, seq=packet.seq,
                          time_base=packet.time_base_ns, is_bigendian=packet.is_bigendian)
    message.header.stamp, message.header.frame_id = to_time(packet.stamp_ns), frame_id
    message.events = _bytes(packet.payload)
    return message


def frame_from(message: Image | CompressedImage, reader: PictureReader | None = None) -> Frame:
    """A picture that becomes RGB when it is looked at, which raises CrossSpecError where it cannot be.

    ``reader`` knows the pictures of the topic that came before.
    """
    return Frame(to_ns(message.header.stamp), lambda: _rgb_of(message, reader or PictureReader()))


def _rgb_of(message: Image | CompressedImage, reader: PictureReader) -> np.ndarray:
    data = as_bytes(message.data)
    if isinstance(message, CompressedImage):
        return reader.compressed(message.format, data)
    if known_encoding(message.encoding) is None and (rgb := bridged(message)) is not None:
        return rgb
    return reader.image(message.encoding, message.height, message.width, message.step, bool(message.is_bigendian), data)


def image_to(rgb: np.ndarray, stamp_ns: int, frame_id: str = 'camera') -> Image:
    """The message of an RGB picture, uint8 (H, W, 3)."""
    height, width = rgb.shape[:2]
    message = Image(height=height, width=width, encoding='rgb8', step=3 * width)
    message.header.stamp, message.header.frame_id = to_time(stamp_ns), frame_id
    message.data = _bytes(rgb)
    return message


def raw_image_to(frame: ImageFrame) -> Image:
    """The message of a recorded raw picture, in its own encoding."""
    message = Image(height=frame.height, width=frame.width, encoding=frame.encoding, step=frame.step,
                    is_bigendian=int(frame.is_bigendian))
    message.header.stamp, message.header.frame_id = to_time(frame.stamp_ns), frame.frame_id
    message.data = _bytes(frame.data)
    return message


def compressed_to(frame: ImageFrame) -> CompressedImage:
    """The message of a recorded compressed picture."""
    message = CompressedImage(format=frame.encoding)
    message.header.stamp, message.header.frame_id = to_time(frame.stamp_ns), frame.frame_id
    message.data = _bytes(frame.data)
    return message


def _bytes(values: np.ndarray) -> array:
    data = array('B')
    data.frombytes(np.ascontiguousarray(values).view(np.uint8).reshape(-1).data)
    return data


def draft_to(draft: Draft, frame_id: str = '') -> DraftMsg:
    """The message of a draft."""
    message = DraftMsg(
        window_id=draft.window_id, revision=draft.revision, prompt_key=draft.prompt_key,
        tokenizer_key=draft.tokenizer_key, text=draft.text, base_length=draft.base_length, base_hash=draft.base_hash,
        token_ids=array('I', draft.token_ids), parents=array('i', draft.parents), weights=array('I', draft.weights),
        source=draft.source, events_used=draft.events_used, compute_ms=float(draft.compute_ms),
        trained_for=draft.trained_for, other_verifier=draft.other_verifier)
    message.header.stamp, message.header.frame_id = to_time(draft.window_end_ns), frame_id
    return message


def draft_from(message: DraftMsg) -> Draft:
    """A draft as it came; the proposer judges it."""
    return Draft(
        window_id=message.window_id, window_end_ns=to_ns(message.header.stamp), revision=message.revision,
        prompt_key=message.prompt_key, tokenizer_key=message.tokenizer_key, text=message.text,
        token_ids=tuple(message.token_ids), parents=tuple(message.parents), weights=tuple(message.weights),
        base_length=message.base_length, base_hash=message.base_hash, source=message.source,
        events_used=message.events_used, compute_ms=message.compute_ms, trained_for=message.trained_for,
        other_verifier=message.other_verifier)


def caption_to(caption: Caption, frame_id: str = '') -> CaptionMsg:
    """The message of a caption."""
    message = CaptionMsg(
        window_id=caption.window_id, stage=int(caption.stage), text=caption.text, stable_length=caption.stable_length,
        token_ids=array('I', caption.token_ids), drafted=caption.drafted, accepted=caption.accepted,
        target_passes=caption.target_passes, mode=caption.mode.value, lossless=caption.lossless,
        acceptance_rule=caption.acceptance_rule, exact=caption.exact, near_ties=caption.near_ties,
        frame_stamps=[to_time(stamp) for stamp in caption.frame_stamps_ns],
        frames_repeated=len(caption.frame_stamps_ns) - len(set(caption.frame_stamps_ns)),
        stage_names=list(caption.stage_ms), stage_ms=array('f', caption.stage_ms.values()),
        answer_ms=float(caption.answer_ms), words_age_ms=float(caption.words_age_ms))
    message.header.stamp, message.header.frame_id = to_time(caption.window_end_ns), frame_id
    return message


def caption_from(message: CaptionMsg) -> Caption:
    """A caption. Raises CrossSpecError for a stage or mode that does not exist."""
    try:
        stage, mode = Stage(message.stage), Mode(message.mode)
    except ValueError as error:
        raise CrossSpecError(f'caption of window {message.window_id}: {error}') from error
    return Caption(
        window_id=message.window_id, window_end_ns=to_ns(message.header.stamp), stage=stage, text=message.text,
        stable_length=message.stable_length, token_ids=tuple(message.token_ids), mode=mode, lossless=message.lossless,
        drafted=message.drafted, accepted=message.accepted, target_passes=message.target_passes,
        frame_stamps_ns=tuple(to_ns(stamp) for stamp in message.frame_stamps),
        stage_ms=dict(zip(message.stage_names, message.stage_ms)), answer_ms=message.answer_ms,
        acceptance_rule=message.acceptance_rule, exact=message.exact, near_ties=message.near_ties,
        words_age_ms=message.words_age_ms)


def change_to(change: SceneChange, frame_id: str = '') -> SceneChangeMsg:
    """The message of what the events say of a slot."""
    message = SceneChangeMsg(
        window_id=change.window_id, activity=float(change.activity), threshold=float(change.threshold),
        changed=bool(change.changed), reason=int(change.reason), reference_id=change.reference_id,
        scene_id=change.scene_id)
    message.header.stamp, message.header.frame_id = to_time(change.window_end_ns), frame_id
    return message


def change_from(message: SceneChangeMsg) -> SceneChange:
    """What the events say of a slot. Raises CrossSpecError for a reason that does not exist."""
    try:
        reason = Opening(message.reason)
    except ValueError as error:
        raise CrossSpecError(f'scene_change of window {message.window_id}: {error}') from error
    return SceneChange(message.window_id, to_ns(message.header.stamp), message.activity, message.threshold,
                       message.changed, reason, message.reference_id, message.scene_id)


def verdict_to(verdict: Verdict, refused: Mapping[str, int] | None = None) -> VerdictMsg:
    """The message of a verdict, with the drafts refused since the last one by cause."""
    sources, refused = sorted({*verdict.drafted, *verdict.accepted}), refused or {}
    message = VerdictMsg(
        window_id=verdict.window_id, committed=array('I', verdict.committed), committed_hash=verdict.committed_hash,
        target_passes=verdict.target_passes, final=verdict.final, sources=sources,
        drafted=array('I', [verdict.drafted.get(name, 0) for name in sources]),
        accepted=array('I', [verdict.accepted.get(name, 0) for name in sources]),
        refused_causes=list(refused), refused=array('I', refused.values()), tokenizer_key=verdict.tokenizer_key,
        verifier_key=verdict.verifier_key)
    message.header.stamp = to_time(verdict.window_end_ns)
    return message


def verdict_from(message: VerdictMsg) -> Verdict:
    """A verdict as it came."""
    return Verdict(
        window_id=message.window_id, window_end_ns=to_ns(message.header.stamp), committed=tuple(message.committed),
        committed_hash=message.committed_hash, target_passes=message.target_passes, final=message.final,
        accepted=dict(zip(message.sources, message.accepted)), drafted=dict(zip(message.sources, message.drafted)),
        tokenizer_key=message.tokenizer_key, verifier_key=message.verifier_key)


def _seen(value: float) -> float | None:
    """A message's number, None where NaN says that there was nothing to measure."""
    return None if math.isnan(value) else float(value)


def latency_from(message: WindowLatency) -> Latency:
    """The monitor's row of one window."""
    return Latency(
        window_id=message.window_id, first_draft_age_ms=_seen(message.first_draft_age_ms),
        draft_age_ms=_seen(message.draft_age_ms), first_partial_age_ms=_seen(message.first_partial_age_ms),
        caption_age_ms=_seen(message.caption_age_ms), draft_compute_ms=_seen(message.draft_compute_ms),
        stage_ms=dict(zip(message.stage_names, message.stage_ms)), mode=message.mode,
        draft_over_budget=message.draft_over_budget, caption_over_budget=message.caption_over_budget,
        draft_deadline_misses=message.draft_deadline_misses, caption_deadline_misses=message.caption_deadline_misses)


def diagnostic_from(status: DiagnosticStatus) -> Diagnostic:
    """The newest status of a part of the graph."""
    return Diagnostic(level=int.from_bytes(status.level, 'little'), message=status.message,
                      values={item.key: item.value for item in status.values})
