"""Drafter and verifier in one process, for hosts where both share one GPU: one executor, a thread for each model."""
from __future__ import annotations

from collections.abc import Sequence


from crossspec_ros.nodes import process
from crossspec_ros.nodes.drafter import DrafterNode
from crossspec_ros.nodes.verifier import VerifierNode


def main(args: Sequence[str] | None = None) -> int:
    """Run both nodes; returns the exit code. Name parameters and remaps by node: ``-p drafter:draft.lead_ms:=100``."""
    nodes: list[DrafterNode | VerifierNode] = []

    def spin() -> int:
        for make in (DrafterNode, VerifierNode):
            nodes.append(make())
        return process.spin_together(nodes)

    return process.run_nodes(spin, nodes, args)


if __name__ == '__main__':
    process.leave(main())
