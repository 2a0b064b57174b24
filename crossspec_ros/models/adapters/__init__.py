"""One small adapter a model class: where its frames go in the prompt and how one frame becomes embeddings.

To support another class, write a module like `video_llava` and name it in `ADAPTERS`. What a class needs: a vision
tower that treats frames one by one, frames in time order in the prompt, one-dimensional positions, causal attention.
"""
from crossspec_ros.models.adapters.base import Adapter
from crossspec_ros.models.adapters.llava_onevision import LlavaOnevisionAdapter
from crossspec_ros.models.adapters.video_llava import VideoLlavaAdapter

ADAPTERS: dict[str, type[Adapter]] = {
    'VideoLlavaForConditionalGeneration': VideoLlavaAdapter,
    'LlavaOnevisionForConditionalGeneration': LlavaOnevisionAdapter,
}

__all__ = ['ADAPTERS', 'Adapter', 'LlavaOnevisionAdapter', 'VideoLlavaAdapter']
