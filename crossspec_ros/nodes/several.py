"""Several cameras, one model: a verifier node a camera, each in a namespace of its own, in one process.

The model is loaded once. Each camera has its own windows, memory of captions, prompt, questions, services and counts,
so nothing of one camera gets into another's words; see `crossspec_ros.pipeline.turns` for whose window is next.
"""
from __future__ import annotations

import argparse
import sys
import weakref
from collections.abc import Sequence

from rclpy.utilities import remove_ros_args

from crossspec_ros.config import VerifierConfig
from crossspec_ros.nodes import process
from crossspec_ros.nodes.verifier import VerifierNode
from crossspec_ros.pipeline.building import load_model
from crossspec_ros.pipeline.turns import Turn, Turns, Work
from crossspec_ros.speculation.target import Target


class Shelf:
    """Models by what was asked for, each loaded once and let go when the last camera that uses it lets go."""

    def __init__(self) -> None:
        self._targets: weakref.WeakValueDictionary[tuple[object, ...], Target] = weakref.WeakValueDictionary()

    def get(self, config: VerifierConfig) -> Target:
        """The model of these parameters. Raises CrossSpecError where it cannot be loaded."""
        key = (config.model, config.device, config.dtype, config.cache, config.frame_interval_ms,
               config.decode.max_new_tokens, config.trust_remote_code, config.allow_pickle, config.tensor_parallel)
        target = self._targets.get(key)
        if target is None:
            target = self._targets[key] = load_model(config)
        return target

    def close(self) -> None:
        """Let go what models have outside this process; it ends."""
        for target in list(self._targets.values()):
            target.close()


class CameraVerifier(VerifierNode):
    """The verifier of one of several cameras."""

    def __init__(self, turns: Turns, shelf: Shelf, **kwargs: object) -> None:
        self._turns, self._shelf = turns, shelf
        super().__init__(**kwargs)

    def _load(self) -> None:
        with self._turns.model_lock:                            # the other cameras may be using it
            super()._load()

    def _loaded_target(self) -> Target:
        return self._shelf.get(self._config)

    def _let_go(self, target: Target) -> None:
        """Other cameras may be using it: the shelf lets go."""

    def _make_worker(self) -> Turn:
        core = self._core
        return self._turns.join(Work(self._settle, lambda: core.waiting_ns, self._work, self._failed, core.has_frames))

    def _pressed(self) -> bool:
        worker = self._worker
        return super()._pressed() or worker is None or worker.others_busy()

    def _statistics(self) -> dict[str, object]:
        worker = self._worker
        shared = {'cameras': len(self._turns.members), 'turns': worker.taken} if worker is not None else {}
        return super()._statistics() | shared


def camera_arguments(namespace: str, image_topic: str) -> list[str]:
    """The node's own arguments; they win over those of the process."""
    return ['--ros-args', '-r', f'__ns:={namespace}', '-r', f'image:={image_topic}',
            '-r', f'image/compressed:={image_topic}/compressed']


def _cameras(args: Sequence[str] | None) -> list[tuple[str, str]]:
    parser = argparse.ArgumentParser(prog='several', description='One verifier for several cameras.')
    parser.add_argument('--camera', nargs=2, action='append', required=True, metavar=('NAMESPACE', 'IMAGE_TOPIC'),
                        help='a camera: namespace of its verifier and topic of its images')
    words = remove_ros_args(sys.argv if args is None else ['several', *args])[1:]
    return [(namespace, topic) for namespace, topic in parser.parse_args(words).camera]


def main(args: Sequence[str] | None = None) -> int:
    """Run the nodes; returns the exit code. Parameters hold for all cameras, or by name in a YAML file."""
    cameras = _cameras(args)
    nodes: list[CameraVerifier] = []
    turns, shelf = Turns(), Shelf()

    def spin() -> int:
        for namespace, topic in cameras:
            nodes.append(CameraVerifier(turns, shelf, cli_args=camera_arguments(namespace, topic)))
        return process.spin_together(nodes)

    try:
        return process.run_nodes(spin, nodes, args)
    finally:
        turns.close()
        shelf.close()


if __name__ == '__main__':
    process.leave(main())
