"""`LlavaNextVideoForConditionalGeneration`: pooled patches of each frame, side by side, nothing after the last."""
from __future__ import annotations

from crossspec_ros.models.targets.adapters.featured import FeaturedAdapter


class LlavaNextVideoAdapter(FeaturedAdapter):
    """LLaVA-NeXT-Video; a Llama or Mistral decoder with one-dimensional positions."""

    template = 'USER: {video}\n{question} ASSISTANT:'
