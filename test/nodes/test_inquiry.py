"""A service whose answer is lost is asked again, over real DDS."""
import os

import pytest
from graph_harness import Probe
from std_srvs.srv import Trigger

from crossspec_ros.demo.options import free_domain
from crossspec_ros.nodes import inquiry
from crossspec_ros.nodes.inquiry import Inquiry


class Forgetful:
    """A service that has nothing to say to the first so many requests, as one that does not see who calls it."""

    def __init__(self, probe: Probe, lost: int) -> None:
        self.asked, self._lost = 0, lost
        self.service = probe.node.create_service(Trigger, 'forgetful', self._on_request)
        self._send, self.service.send_response = self.service.send_response, self._answer

    def _on_request(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self.asked += 1
        response.message = f'answer {self.asked}'
        return response

    def _answer(self, response: Trigger.Response, header: object) -> None:
        if self.asked > self._lost:
            self._send(response, header)


@pytest.fixture
def probe():
    made = Probe(free_domain(40 + os.getpid() % 50))
    yield made
    made.close()


@pytest.mark.parametrize('lost', [0, 2])
def test_lost_answer_is_asked_for_again(probe, monkeypatch, lost):
    monkeypatch.setattr(inquiry, 'AGAIN_S', 0.5)
    service, client = Forgetful(probe, lost), probe.node.create_client(Trigger, 'forgetful')
    asking = Inquiry(client, Trigger.Request())
    assert probe.wait_for(asking.poll, 'an answer').message.startswith('answer ')
    assert service.asked > lost
    assert not client._pending_requests                         # what was given up is not kept
    before = service.asked
    assert asking.poll() is None                                # an answer is given once; this asks anew
    assert probe.wait_for(asking.poll, 'another answer') and service.asked > before


def test_service_that_is_not_there_is_not_asked(probe):
    asking = Inquiry(probe.node.create_client(Trigger, 'nobody'), Trigger.Request())
    assert asking.poll() is None and asking._future is None
