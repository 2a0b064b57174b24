"""Drafter and verifier in one process, for hosts where both share one GPU: one executor, a thread for each model.

``--qualifier`` puts the qualifier between them.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rclpy.utilities import remove_ros_args

from crossspec_ros.nodes import process
from crossspec_ros.nodes.drafter import DrafterNode
from crossspec_ros.nodes.model_node import ModelNode
from crossspec_ros.nodes.qualifier import QualifierNode
from crossspec_ros.nodes.verifier import VerifierNode


def _kinds(args: Sequence[str] | None) -> list[type[ModelNode]]:
    parser = argparse.ArgumentParser(prog='composed', description='Drafter and verifier in one process.')
    parser.add_argument('--qualifier', action='store_true', help='a qualifier between them')
    words = remove_ros_args(sys.argv if args is None else ['composed', *args])[1:]
    between = [QualifierNode] if parser.parse_args(words).qualifier else []
    return [DrafterNode, *between, VerifierNode]


def main(args: Sequence[str] | None = None) -> int:
    """Run the nodes; returns the exit code. Name parameters and remaps by node: ``-p drafter:draft.lead_ms:=100``."""
    kinds = _kinds(args)
    nodes: list[ModelNode] = []

    def spin() -> int:
        for make in kinds:
            nodes.append(make())
        return process.spin_together(nodes)

    return process.run_nodes(spin, nodes, args)


if __name__ == '__main__':
    process.leave(main())
