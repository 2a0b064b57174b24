"""One small adapter a class of models; a class that is not named here is served by `targets.generic`."""
from crossspec_ros.models.targets.adapters.base import Adapter, Parts
from crossspec_ros.models.targets.adapters.llava_onevision import LlavaOnevisionAdapter
from crossspec_ros.models.targets.adapters.video_llava import VideoLlavaAdapter

ADAPTERS: dict[str, type[Adapter]] = {
    'VideoLlavaForConditionalGeneration': VideoLlavaAdapter,
    'LlavaOnevisionForConditionalGeneration': LlavaOnevisionAdapter,
}

__all__ = ['ADAPTERS', 'Adapter', 'LlavaOnevisionAdapter', 'Parts', 'VideoLlavaAdapter']
