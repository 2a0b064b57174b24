"""Targets: nearly any video-language model of transformers, cut into rows, masks and positions for speculation."""
from crossspec_ros.models.targets.load import load_target
from crossspec_ros.models.targets.transformers_target import Scorer, TransformersTarget

__all__ = ['Scorer', 'TransformersTarget', 'load_target']
