"""The QoS of every topic, once, with the reason. Each profile can be overridden by ``qos_overrides.*`` parameters."""
from __future__ import annotations

from rclpy.duration import Duration
from rclpy.qos import (QoSDurabilityPolicy, QoSHistoryPolicy, QoSPolicyKind, QoSProfile, QoSReliabilityPolicy)
from rclpy.qos_overriding_options import QoSOverridingOptions

_MS = 1_000_000
_FOREVER_NS = 10 ** 17                                          # middlewares differ in how they write infinity


def _profile(depth: int, *, reliable: bool, latched: bool = False, deadline_ms: float = 0.0) -> QoSProfile:
    profile = QoSProfile(
        history=QoSHistoryPolicy.KEEP_LAST, depth=depth,
        reliability=QoSReliabilityPolicy.RELIABLE if reliable else QoSReliabilityPolicy.BEST_EFFORT,
        durability=QoSDurabilityPolicy.TRANSIENT_LOCAL if latched else QoSDurabilityPolicy.VOLATILE)
    if deadline_ms:
        profile.deadline = Duration(nanoseconds=round(deadline_ms * _MS))
    return profile


def events() -> QoSProfile:
    """Best effort, so that any driver matches and a slow reader never slows it; deep, as each packet carries new
    events.

    A deadline only where all publishers offer one (`nodes.intake`): a driver that offers none would else be silently
    incompatible.
    """
    return _profile(1000, reliable=False)


def image() -> QoSProfile:
    """Best effort and shallow: an old picture is worth nothing once a newer one is here. Deadlines as for events."""
    return _profile(2, reliable=False)


def kept_image() -> QoSProfile:
    """As for images, but deeper: a recording wants each of them, not the newest."""
    return _profile(16, reliable=False)


def trigger() -> QoSProfile:
    """Best effort, so that any publisher matches; a brake says its state over and over."""
    return _profile(10, reliable=False)


def imu() -> QoSProfile:
    """As sensors publish: best effort."""
    return _profile(10, reliable=False)


def draft(deadline_ms: float = 0.0) -> QoSProfile:
    """Reliable: a lost draft is a window without one. Depth for the revisions of a window or two."""
    return _profile(8, reliable=True, deadline_ms=deadline_ms)


def caption(deadline_ms: float = 0.0) -> QoSProfile:
    """Reliable: a lost final caption would leave a partial one on screens. Depth for the partials of a window."""
    return _profile(32, reliable=True, deadline_ms=deadline_ms)


def scene_change() -> QoSProfile:
    """Reliable: a lost one is a window that is not opened. Depth for a second or two of slots."""
    return _profile(16, reliable=True)


def verdict() -> QoSProfile:
    """Reliable, as a caption; the newest few are all a drafter can use."""
    return _profile(8, reliable=True)


def prompt() -> QoSProfile:
    """Reliable and latched: a node that starts later must ask the same question."""
    return _profile(1, reliable=True, latched=True)


def latency() -> QoSProfile:
    """Reliable: a row a window for tables and dashboards."""
    return _profile(32, reliable=True)


def picture() -> QoSProfile:
    """The overlay's pictures. Reliable, since viewers ask for either and best effort would not match all of them."""
    return _profile(2, reliable=True)


def diagnostics() -> QoSProfile:
    """As every tool on /diagnostics expects: reliable, keep last 10."""
    return _profile(10, reliable=True)


def played_events() -> QoSProfile:
    """What the player offers: reliable, which readers of either kind match; as deep as readers are."""
    return _profile(1000, reliable=True)


def played_image() -> QoSProfile:
    """What the player offers: reliable, which readers of either kind match."""
    return _profile(8, reliable=True)


def clock() -> QoSProfile:
    """As every node with use_sim_time reads /clock: best effort, the newest."""
    return _profile(1, reliable=False)


def overridable() -> QoSOverridingOptions:
    """Lets parameters replace history, depth, reliability and deadline of a topic."""
    return QoSOverridingOptions((QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH, QoSPolicyKind.RELIABILITY,
                                 QoSPolicyKind.DEADLINE))


def frame_latency() -> QoSProfile:
    """Reliable: a message a second from each input, for tables and dashboards."""
    return _profile(8, reliable=True)


def deadline_ns(profile: QoSProfile) -> int:
    """The deadline of a profile; 0 where it has none."""
    value = profile.deadline.nanoseconds
    return value if 0 < value < _FOREVER_NS else 0


def with_deadline(profile: QoSProfile, value_ns: int) -> QoSProfile:
    """The same profile with a deadline; 0: none."""
    names = ('history', 'depth', 'reliability', 'durability', 'lifespan', 'liveliness', 'liveliness_lease_duration')
    same = {name: getattr(profile, name) for name in names}
    return QoSProfile(**same, **({'deadline': Duration(nanoseconds=value_ns)} if value_ns else {}))


def best_effort(profile: QoSProfile) -> QoSProfile:
    """The same depth, asked for so that any publisher matches."""
    return _profile(profile.depth, reliable=False)


def describe(profile: QoSProfile) -> str:
    """A profile in a few words, for warnings."""
    return f'{profile.reliability.name.lower()}, {profile.durability.name.lower()}'
