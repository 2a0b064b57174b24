"""`~/ask` over real DDS: answers beside captions, feedback, cancel, forms, and refusals in a line."""
from __future__ import annotations

import json

import pytest
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient

from crossspec_ros.action import Ask
from crossspec_ros.nodes.conversions import to_time

pytestmark = pytest.mark.graph
S = 1_000_000_000


class Asker:
    """An action client in the probe's node."""

    def __init__(self, graph) -> None:
        self.probe = graph.probe
        self.client = ActionClient(self.probe.node, Ask, 'verifier/ask')
        self.feedback = []
        self.probe.wait_for(self.client.server_is_ready, 'the action server')

    def send(self, question='Is there a dog?', **goal):
        sent = self.client.send_goal_async(Ask.Goal(question=question, **goal),
                                           feedback_callback=lambda message: self.feedback.append(message.feedback))
        self.probe.wait_for(sent.done, 'the goal taken')
        return sent.result()

    def result(self, handle):
        future = handle.get_result_async()
        self.probe.wait_for(future.done, 'an answer')
        return future.result().status, future.result().result

    def ask(self, *arguments, **goal):
        return self.result(self.send(*arguments, **goal))

    def close(self) -> None:
        self.client.destroy()


@pytest.fixture(scope='module')
def graph(tmp_path_factory, models):
    from graph_harness import Graph
    with Graph(tmp_path_factory.mktemp('questions'), models) as graph:
        graph.start('verifier', audit__keep=True)
        graph.probe.start_cameras(events=False)
        graph.probe.wait_for(lambda: graph.probe.captions, 'a caption')
        yield graph


@pytest.fixture
def asker(graph):
    asker = Asker(graph)
    yield asker
    asker.close()


def test_a_question_is_answered_beside_the_captions(asker, graph):
    status, result = asker.ask()
    assert status == GoalStatus.STATUS_SUCCEEDED and result.success and result.lossless
    assert len(result.frame_stamps) == 8 and result.target_passes >= 1
    assert list(result.fields) == ['answer'] and list(result.agreement) == ['unknown'] and list(result.stood) == [1]
    captions = len(graph.probe.captions)
    graph.probe.wait_for(lambda: len(graph.probe.captions) > captions + 3, 'captions go on')
    assert graph.probe.count('verifier', 'questions_answered') >= 1 or graph.probe.wait_for(
        lambda: graph.probe.count('verifier', 'questions_answered'), 'the count')


def test_a_question_about_a_moment_ago_is_about_its_frames(asker, graph):
    _, now = asker.ask()
    then_ns = now.frame_stamps[0].sec * S + now.frame_stamps[0].nanosec
    status, result = asker.ask(stamp=to_time(then_ns))
    assert status == GoalStatus.STATUS_SUCCEEDED
    last = result.frame_stamps[-1]
    assert abs(last.sec * S + last.nanosec - then_ns) < S // 2


@pytest.mark.parametrize('form, read', [('["a dog", "no dog"]', str), (json.dumps({
    'type': 'object', 'properties': {'dog': {'type': 'boolean'}}, 'required': ['dog'],
    'additionalProperties': False}), json.loads)])
def test_an_answer_has_the_form_that_was_asked_for(asker, form, read):
    pytest.importorskip('llguidance', reason='the grammar library llguidance is not installed')
    status, result = asker.ask(form=form)
    assert status == GoalStatus.STATUS_SUCCEEDED and result.complete
    said = read(result.text)
    assert said in ('a dog', 'no dog') if read is str else isinstance(said['dog'], bool)


@pytest.mark.parametrize('goal, rule', [({'question': ''}, 'must'), ({'form': '{"a'}, 'form must be'),
                                        ({'stamp': to_time(5 * S)}, 'frames are held from')])
def test_what_cannot_be_asked_is_refused_in_a_line(asker, goal, rule):
    status, result = asker.ask(**goal)
    assert status == GoalStatus.STATUS_ABORTED and not result.success
    assert rule in result.message and '\n' not in result.message


def test_a_cancelled_question_ends(asker, graph):
    handle = asker.send()
    cancelled = handle.cancel_goal_async()
    graph.probe.wait_for(cancelled.done, 'the cancel')
    status, result = asker.result(handle)
    assert status in (GoalStatus.STATUS_CANCELED, GoalStatus.STATUS_SUCCEEDED)      # it may have been answered before
    assert result.success == (status == GoalStatus.STATUS_SUCCEEDED)


def test_no_caption_became_another_for_the_questions(graph):
    def told():
        answer = json.loads(graph.probe.trigger('verifier/audit').message)
        return answer if not answer['pending'] and answer['checked'] else None
    graph.probe.stop_cameras()
    audit = graph.probe.wait_for(told, 'the audit')
    assert audit['mismatched'] == 0
