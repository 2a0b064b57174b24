"""Drafter and verifier in one process, for hosts where both share one GPU: one executor, a thread for each model."""
from __future__ import annotations

from collections.abc import Sequence

import rclpy
from rclpy.executors import SingleThreadedExecutor

from crossspec_ros.nodes import process
from crossspec_ros.nodes.drafter import DrafterNode
from crossspec_ros.nodes.verifier import VerifierNode


def main(args: Sequence[str] | None = None) -> int:
    """Run both nodes; returns the exit code. Name parameters and remaps by node: ``-p drafter:draft.lead_ms:=100``."""
    nodes: list[DrafterNode | VerifierNode] = []

    def spin() -> int:
        for make in (DrafterNode, VerifierNode):
            nodes.append(make())
        if not all([node.start() for node in nodes]):
            return process.EXIT_BAD_INPUT
        executor = SingleThreadedExecutor()
        for node in nodes:
            executor.add_node(node)
        while rclpy.ok():
            executor.spin_once(timeout_sec=0.5)
        return 0

    return process.run_nodes(spin, nodes, args)


if __name__ == '__main__':
    process.leave(main())
