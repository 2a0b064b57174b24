"""The action server of a node that answers questions: goals in, partial texts as feedback, the answer as the result."""
from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.node import Node
from rclpy.task import Future

from crossspec_ros.action import Ask
from crossspec_ros.errors import CrossSpecError
from crossspec_ros.nodes.conversions import to_ns, to_time
from crossspec_ros.pipeline.agreement import Field
from crossspec_ros.pipeline.asking import Asking, End, Question
from crossspec_ros.speculation.constraint import Constraint
from crossspec_ros.speculation.types import Caption


@dataclass(frozen=True)
class Answering:
    """What answers: the open questions, a maker of forms from their texts, and what to do when there is work."""

    asking: Asking
    constraint: Callable[[str], Constraint | None]
    wake: Callable[[], None]


@dataclass(eq=False)
class _Goal:
    """A goal under way; ``future`` is done when it has ended."""

    handle: ServerGoalHandle
    future: Future
    question: Question | None = field(default=None)
    cancelled: bool = False


class QuestionServer:
    """``~/ask`` of a node. ``answering()`` is None while it cannot answer, ``draft()`` the newest draft's text."""

    def __init__(self, node: Node, answering: Callable[[], Answering | None], draft: Callable[[], str]) -> None:
        self._node, self._answering, self._draft = node, answering, draft
        self._goals: dict[bytes, _Goal] = {}
        self._server = ActionServer(node, Ask, '~/ask', self._execute, goal_callback=self._on_goal,
                                    cancel_callback=self._on_cancel)

    def destroy(self) -> None:
        """Take the action away; goals that are open end with the node."""
        self._server.destroy()

    def _on_goal(self, request: Ask.Goal) -> GoalResponse:
        return GoalResponse.REJECT if self._answering() is None else GoalResponse.ACCEPT

    def _on_cancel(self, handle: ServerGoalHandle) -> CancelResponse:
        goal = self._goals.get(bytes(handle.goal_id.uuid))
        if goal is None:
            return CancelResponse.REJECT
        goal.cancelled = True
        if goal.question is not None:
            goal.question.cancelled = True
        answering = self._answering()
        if answering is not None:
            answering.wake()
        return CancelResponse.ACCEPT

    async def _execute(self, handle: ServerGoalHandle) -> Ask.Result:
        goal = _Goal(handle, Future(executor=self._node.executor))
        self._goals[bytes(handle.goal_id.uuid)] = goal
        # To read a vocabulary for a form may take a second, in which callbacks have to go on.
        threading.Thread(target=self._begin, args=(goal,), name='question', daemon=True).start()
        end, result = await goal.future
        del self._goals[bytes(handle.goal_id.uuid)]
        if end is End.ANSWERED:
            handle.succeed()
        elif end is End.CANCELLED and handle.is_cancel_requested:
            handle.canceled()
        else:
            handle.abort()
        return result

    def _begin(self, goal: _Goal) -> None:
        request, answering = goal.handle.request, self._answering()
        try:
            if answering is None:
                raise CrossSpecError('the node is not active; activate it and ask again')
            stamp_ns = to_ns(request.stamp) or None
            goal.question = answering.asking.ask(
                request.question, stamp_ns, answering.constraint(request.form), self._draft(),
                lambda caption: self._tell(goal, caption),
                lambda end, caption, fields, why: self._end(goal, end, caption, fields, why))
            goal.question.cancelled = goal.cancelled            # asked for while the form was made
            answering.wake()
        except CrossSpecError as error:
            self._end(goal, End.FAILED, None, [], str(error))

    @staticmethod
    def _tell(goal: _Goal, caption: Caption) -> None:
        goal.handle.publish_feedback(Ask.Feedback(text=caption.text, stable_length=caption.stable_length))

    @staticmethod
    def _end(goal: _Goal, end: End, caption: Caption | None, fields: list[Field], why: str) -> None:
        result = Ask.Result(success=end is End.ANSWERED, message=why or ('' if caption else end.value))
        if caption is not None:
            result.text, result.token_ids = caption.text, list(caption.token_ids)
            result.complete, result.lossless = goal.question.complete, caption.lossless
            result.target_passes = caption.target_passes
            result.frame_stamps = [to_time(stamp_ns) for stamp_ns in caption.frame_stamps_ns]
            result.fields, result.values = [each.name for each in fields], [each.value for each in fields]
            result.agreement, result.stood = [each.agreement for each in fields], [each.stood for each in fields]
        goal.future.set_result((end, result))
