"""What transformers' processors need where a package is there by half: torchvision without its compiled part."""
from __future__ import annotations

import importlib.util
from functools import lru_cache

ONES = ('zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen '
        'seventeen eighteen nineteen').split()
TENS = 'twenty thirty forty fifty sixty seventy eighty ninety'.split()


def number_words(number: int) -> str:
    """A number from 0 to 99 in English words, as the package num2words says it: what SmolVLM's processor asks for."""
    if not 0 <= number < 100:
        raise ValueError(f'number must be 0 to 99, got {number}')
    if number < 20:
        return ONES[number]
    tens = TENS[number // 10 - 2]
    return tens if number % 10 == 0 else f'{tens}-{ONES[number % 10]}'


@lru_cache(maxsize=1)
def ready() -> None:
    """Import torchvision although its compiled operators cannot be found, and stand in for a missing num2words.

    Shape functions that torchvision registers for its compiled operators are dropped where those are missing; resizing,
    all that processors need of it, is written in torch.
    """
    import torch
    register = torch.library.register_fake

    def tolerant(name, *args, **kwargs):
        if not isinstance(name, str) or not name.startswith('torchvision::'):
            return register(name, *args, **kwargs)

        def decorate(function):
            try:
                return register(name, *args, **kwargs)(function)
            except RuntimeError:                                 # the operator itself has not been loaded
                return function
        return decorate
    torch.library.register_fake = tolerant
    try:
        import torchvision  # noqa: F401
    finally:
        torch.library.register_fake = register
    if importlib.util.find_spec('num2words') is None:
        from transformers.models.smolvlm import processing_smolvlm
        processing_smolvlm.num2words = number_words
