"""What the two nodes with a model have in common: life cycle, one working thread, prompt, services, counts."""
from __future__ import annotations

import gc
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile
from std_srvs.srv import SetBool, Trigger

from crossspec_ros.config import DEFAULT_PROMPT
from crossspec_ros.nodes import parameters, process, qos
from crossspec_ros.nodes.health import Health
from crossspec_ros.nodes.intake import Intake, InputSpec
from crossspec_ros.srv import SetPrompt
from crossspec_ros.tracing.tracer import TRACER


class ModelNode(LifecycleNode, ABC):
    """Loads its model on configure and frees it on cleanup; while active, a thread of its own calls `_step`.

    A subclass names itself by the constants below, makes its own state and topics after this constructor, and says how
    its core is loaded, begun, fed and freed.
    """

    DOING = ''                                                  # in one word, for people
    FORGOTTEN = ''                                              # by ~/reset
    FAILURE = ''                                                # the cause by which failed steps are counted
    IDLE_S = 0.01                                               # the thread looks so often without being woken

    def __init__(self, name: str, config_class: type, **kwargs: object) -> None:
        super().__init__(name, **kwargs)
        self._config = parameters.declare(self, config_class)
        parameters.follow_changes(self, self._config, self._reconfigure)
        process.trace(self, self._config.trace)
        self._grid = self._config.grid()
        self._prompt = self._config.prompt or DEFAULT_PROMPT
        self._enabled = self._config.enabled
        self._core: Any = None
        self._worker: process.Worker | None = None
        self._input: Intake | None = None
        self._frame_id = ''
        self._health = Health(self, self._statistics)
        self._qos_options = {'qos_overriding_options': qos.overridable()}
        self.create_service(SetPrompt, '~/set_prompt', self._on_set_prompt)
        self.create_service(SetBool, '~/enable', self._on_enable)
        self.create_service(Trigger, '~/reset', self._on_reset)
        self._jump = process.on_time_jump(self, self._on_jump)

    # ---- what a subclass says

    @abstractmethod
    def _load(self) -> None:
        """Load the model and set ``_core``; may raise anything."""

    @abstractmethod
    def _begin(self) -> None:
        """Become active: the core starts from nothing."""

    @abstractmethod
    def _step(self) -> bool:
        """One piece of work in the thread; True where there may be more."""

    @abstractmethod
    def _want_reset(self) -> None:
        """Forget, soon, what depends on time; from any thread."""

    @abstractmethod
    def _set_prompt(self, prompt: str) -> tuple[bool, str]:
        """Ask another question from now on: whether that can be, and its key or why not."""

    def _free(self) -> None:
        """Let the model go, and what waited for it."""
        self._core = None
        gc.unfreeze()                                           # what is let go may be garbage now
        self._input.account.forget_held()

    def _make_worker(self) -> process.Worker:
        """Who calls `_step`."""
        return process.Worker(self.DOING, self._step, self._failed, idle_s=self.IDLE_S)

    def _reconfigure(self, config: Any) -> None:
        """Parameters that may change while the node lives have changed."""
        self._config = config

    # ---- lifecycle

    def start(self) -> bool:
        """Configure and activate where that was asked for."""
        return not self._config.autostart or process.autostart(self)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model."""
        try:
            self._load()
        except Exception as error:  # noqa: BLE001 - rclpy would swallow it and say nothing
            process.report_failure(self, f'cannot load the {self.get_name()}', error)
            return TransitionCallbackReturn.FAILURE
        _set_aside()
        self.get_logger().info(f'loaded the {self.get_name()} {self._config.model} on {self._config.device}')
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Begin to work."""
        result = super().on_activate(state)
        self._begin()
        self._input.reset()
        self._health.begin_watch()
        self._worker = self._make_worker()
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop working; the model stays."""
        self._stop_worker()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model."""
        self._free()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End from any state."""
        self._stop_worker()
        self._free()
        return super().on_shutdown(state)

    def close(self) -> None:
        """End the thread; the process ends."""
        self._stop_worker()

    # ---- the camera

    def _open_input(self, name: str, kind: str, topic: str, message_type: type, profile: QoSProfile,
                    callback: Callable[[Any], None]) -> Intake:
        """Receive the camera's messages, counted from the first."""
        config = self._config
        self._input = Intake(self, self._health, InputSpec(
            name=name, kind=kind, topic=topic, message_type=message_type, profile=profile, stamps=config.stamps,
            gap_ms=config.gap_ms, silence_s=config.silence_s, grace_max_ms=self._grace_max_ms,
            interval_ms=config.frame_interval_ms), callback, self._qos_options)
        self._input.switched = self._want_reset
        return self._input

    @property
    def _grace_max_ms(self) -> float:
        return self._config.grace_max_ms

    def _listening(self) -> bool:
        """Whether a message that comes now is wanted; one that is not is counted."""
        if self._worker is None or not self._enabled:
            self._input.account.drop('inactive' if self._worker is None else 'disabled')
            return False
        return True

    def _on_jump(self) -> None:
        self._input.reset()
        self._want_reset()

    # ---- the thread

    @property
    def _working(self) -> bool:
        """Active, and not told to stop."""
        worker = self._worker                                   # the thread asks while callbacks end it
        return worker is not None and not worker.stopping

    def _wake(self) -> None:
        if self._worker is not None:
            self._worker.wake()

    def _stop_worker(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def _telling(self, name: str, window_id: int, window_end_ns: int, **more: object) -> AbstractContextManager:
        """Around the publication of a window's words: a slice of the trace with how long ago the window ended."""
        if not TRACER.on:
            return TRACER.span(name)
        age_ms = (self.get_clock().now().nanoseconds - window_end_ns) / 1e6
        return TRACER.span(name, window=window_id, age_ms=age_ms, **more)

    def _failed(self, error: Exception) -> None:
        self._health.drop(self.FAILURE, f'{type(error).__name__}: {error}')

    def _statistics(self) -> dict[str, object]:
        values = {'enabled': self._enabled, 'active': self._worker is not None}
        return values | (self._core.statistics() if self._core is not None else {})

    # ---- services

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self._enabled = request.data
        if not self._enabled:
            self._want_reset()
        response.success, response.message = True, self.DOING if self._enabled else 'silent'
        return response

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._want_reset()
        response.success, response.message = True, f'{self.FORGOTTEN} forgotten'
        return response

    def _on_set_prompt(self, request: SetPrompt.Request, response: SetPrompt.Response) -> SetPrompt.Response:
        response.success, response.message = self._set_prompt(request.prompt)
        return response


def _set_aside() -> None:
    """Take what lives as long as the node, libraries and model, out of what the collector looks through.

    A full collection over half a million objects stands still for longer than a pass takes.
    """
    gc.collect()
    gc.freeze()
