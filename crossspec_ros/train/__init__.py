"""Training and evaluation of the built-in pair."""
from crossspec_ros.models import vision_ops  # noqa: F401 - before transformers is imported
