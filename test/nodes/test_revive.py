"""Nodes that are killed under ``crossspec up --restart`` are back, alone, and leave nothing in shared memory."""
from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

pytest.importorskip('crossspec_ros.msg', reason='the messages are not built')
from graph_harness import TWO, Graph, Up  # noqa: E402 - only where there are messages

from crossspec_ros import children  # noqa: E402
from crossspec_ros.nursery import supported  # noqa: E402

pytestmark = [pytest.mark.timeout(900), pytest.mark.skipif(not supported(), reason='nodes are forked on Linux only')]


def owned(pid: int) -> set[Path]:
    """Lock files of the segments and ports of a process."""
    links = [os.readlink(link) for link in Path(f'/proc/{pid}/fd').iterdir() if link.is_symlink()]
    return {Path(link) for link in links if link.startswith('/dev/shm/fastdds_') and link.endswith('_el')}


def held(path: Path, inode: int) -> bool:
    return path.exists() and path.stat().st_ino == inode


def test_killed_nodes_come_back_alone_and_leave_no_shared_memory(tmp_path, models):
    left: dict[Path, int] = {}
    with Graph(tmp_path, models) as graph:
        probe, up = graph.probe, Up(tmp_path, graph)
        try:
            probe.start_cameras()
            words = {'drafter': probe.drafts, 'verifier': probe.captions}
            for node in TWO:
                probe.wait_for(lambda node=node: words[node], f'a word of the {node}: {up.log()}')
            for node in (*TWO, *TWO):
                before = up.pids()
                left |= {path: path.stat().st_ino for path in owned(before[node])}
                os.kill(before[node], signal.SIGKILL)
                probe.wait_for(lambda: up.pids()[node] != before[node], f'another {node}')
                probe.diagnostics.pop(f'/{node}', None)
                heard = len(words[node])
                probe.wait_for(lambda: len(words[node]) > heard + 1, f'more of the {node}')
                changed = {name for name, pid in up.pids().items() if pid != before[name]}
                assert changed == {node}, up.log()
                probe.wait_for(lambda: probe.count(node, f'received /{"events" if node == "drafter" else "image"}') > 5,
                               f'counts of the {node}')
            left |= {path: path.stat().st_ino for pid in up.pids().values() for path in owned(pid)}
            probe.stop_cameras()
        finally:
            children.end([up.process], 60.0)
        assert up.process.returncode == 0, up.log()
    assert len(left) >= 8                                       # the test's own participant has let go of them, too
    kept = [path for path, inode in left.items() if held(path, inode) and path in mine_alone(left)]
    assert not kept


def mine_alone(left: dict[Path, int]) -> set[Path]:
    """Files that nobody holds any more: those that a live process took over since are that one's."""
    from crossspec_ros.shared_memory import dead_segments
    return set(left) & set(dead_segments())
