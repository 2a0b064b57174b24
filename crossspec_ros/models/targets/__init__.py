"""Targets: nearly any video-language model of transformers, cut into rows, masks and positions for speculation."""
from crossspec_ros.models.vision_ops import load_vision_ops

load_vision_ops()                        # before the first class of transformers is imported: these import torchvision

from crossspec_ros.models.targets.load import load_target  # noqa: E402
from crossspec_ros.models.targets.transformers_target import Scorer, TransformersTarget  # noqa: E402

__all__ = ['Scorer', 'TransformersTarget', 'load_target']
