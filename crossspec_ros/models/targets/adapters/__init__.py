"""One small adapter a class of models; a class that is not named here is served by `targets.generic`.

What a named adapter buys over the generic one is speed: a prompt is laid out without running the model, and a group of
frames costs its own pixels only. One that does not fit a checkpoint gives way to the generic one.
"""
from crossspec_ros.models.targets.adapters.base import Adapter, Parts
from crossspec_ros.models.targets.adapters.gemma import Gemma3Adapter, Gemma4Adapter
from crossspec_ros.models.targets.adapters.internvl import InternVLAdapter
from crossspec_ros.models.targets.adapters.llava_next_video import LlavaNextVideoAdapter
from crossspec_ros.models.targets.adapters.llava_onevision import LlavaOnevisionAdapter
from crossspec_ros.models.targets.adapters.qwen_vl import Cosmos3EdgeAdapter, Qwen2VLAdapter, Qwen3VLAdapter
from crossspec_ros.models.targets.adapters.smolvlm import SmolVLMAdapter
from crossspec_ros.models.targets.adapters.video_llava import VideoLlavaAdapter

ADAPTERS: dict[str, type[Adapter]] = {
    'VideoLlavaForConditionalGeneration': VideoLlavaAdapter,
    'LlavaOnevisionForConditionalGeneration': LlavaOnevisionAdapter,
    'LlavaNextVideoForConditionalGeneration': LlavaNextVideoAdapter,
    'Qwen2VLForConditionalGeneration': Qwen2VLAdapter,
    'Qwen2_5_VLForConditionalGeneration': Qwen2VLAdapter,
    'Qwen3VLForConditionalGeneration': Qwen3VLAdapter,
    'Qwen3VLMoeForConditionalGeneration': Qwen3VLAdapter,
    'Cosmos3OmniForConditionalGeneration': Qwen3VLAdapter,
    'Cosmos3EdgeForConditionalGeneration': Cosmos3EdgeAdapter,
    'InternVLForConditionalGeneration': InternVLAdapter,
    'SmolVLMForConditionalGeneration': SmolVLMAdapter,
    'Gemma3ForConditionalGeneration': Gemma3Adapter,
    'Gemma4ForConditionalGeneration': Gemma4Adapter,
}

EXACT_PATCHES = ('VideoLlavaForConditionalGeneration', 'LlavaOnevisionForConditionalGeneration')
"""Classes whose processor counts the vision tower's own patches."""

__all__ = ['ADAPTERS', 'EXACT_PATCHES', 'Adapter', 'Parts']
