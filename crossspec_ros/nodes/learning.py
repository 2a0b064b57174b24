"""The drafter node's learning while driving: services, counts, and the thread between it and the process that learns.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping

from rclpy.lifecycle import LifecycleNode
from std_srvs.srv import Trigger

from crossspec_ros.config import OnlineConfig
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.nodes import process
from crossspec_ros.nodes.health import Health
from crossspec_ros.pipeline.drafting import DraftingPipeline
from crossspec_ros.pipeline.learning import OnlineLearning
from crossspec_ros.speculation.types import Verdict

_IDLE_S = 0.1


class Learning:
    """A part of the drafter node with `learn.online`, and a source of its `nodes.health.Health`."""

    def __init__(self, node: LifecycleNode, config: OnlineConfig, health: Health) -> None:
        self._config, self._health, self._logger = config, health, node.get_logger()
        self._core: OnlineLearning | None = None
        self._worker: process.Worker | None = None
        health.add_source(self)
        node.create_service(Trigger, '~/learn/save', self._on_save)
        node.create_service(Trigger, '~/learn/roll_back', self._on_roll_back)

    def load(self, pipeline: DraftingPipeline) -> None:
        """Be ready to learn. Raises CrossSpecError where this drafter cannot."""
        self._core = OnlineLearning(pipeline, self._config, self._logger.info)

    def begin(self) -> None:
        """Learn from now on."""
        self._core.open()
        self._worker = process.Worker('learning', self._core.step, self._failed, idle_s=_IDLE_S)

    def end(self) -> None:
        """Learn no more; what was learned and not saved is still there."""
        if self._worker is not None:
            self._core.close()
            self._worker.stop()
            self._worker = None

    def free(self) -> None:
        """Let go of everything."""
        self._core = None

    def hear(self, verdict: Verdict) -> None:
        """What the verifier said; quick."""
        if self._worker is not None:
            self._core.hear(verdict)

    def tick(self) -> dict[str, str]:
        """Warnings that hold."""
        return {} if self._core is None else self._core.warnings()

    def statistics(self) -> Mapping[str, object]:
        """Counts and figures."""
        return {} if self._core is None else self._core.statistics()

    def _failed(self, error: Exception) -> None:
        self._health.drop('learning_failed', f'{type(error).__name__}: {error}')

    def _on_save(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answered(response, OnlineLearning.save)

    def _on_roll_back(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answered(response, OnlineLearning.roll_back)

    def _answered(self, response: Trigger.Response, act: Callable[[OnlineLearning], str]) -> Trigger.Response:
        try:
            if self._core is None:
                raise CrossSpecError('the drafter must be configured first')
            response.success, response.message = True, act(self._core)
        except CrossSpecError as error:
            response.success, response.message = False, str(error)
        return response
