"""From a drafter's folder to a drafter, whatever it is."""
from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.builtin import model_path
from crossspec_ros.models.devices import find_device
from crossspec_ros.models.drafter import load_drafter
from crossspec_ros.models.drafters.kinds import EVENT_DRAFTER, EVENTGPT, kind_of
from crossspec_ros.speculation.drafter import Drafter, EventPictures

if TYPE_CHECKING:
    from crossspec_ros.models.drafters.captioning import CaptioningDrafter

AUTO, FOUR_BIT = 'auto', '4bit'
DTYPES = (AUTO, 'float32', 'float16', 'bfloat16', FOUR_BIT)
PICTURES = EventPictures(count=4, height=240, width=320)       # two pairs, for models that merge frames in pairs
_LOG = logging.getLogger(__name__)


def load_any_drafter(name: str | Path = 'builtin', device: str = 'cpu', dtype: str = AUTO, speaks: str = '',
                     allow_pickle: bool = False) -> Drafter:
    """The drafter of a folder: an event drafter, EventGPT, or a video-language model on pictures of events.

    ``dtype`` 'auto' is float32 for event drafters and on a CPU, bfloat16 for the others elsewhere; '4bit' is for
    EventGPT. ``speaks`` is the folder of the verifier (or builtin) whose tokens EventGPT and video-language models of
    another vocabulary are to speak; empty: their own. ``allow_pickle``: their weights may be pytorch_model.bin.

    Raises `CrossSpecError` for a folder that is none of these, that cannot be loaded, or not in that type.
    """
    if dtype not in DTYPES:
        raise CrossSpecError(f'dtype must be one of {", ".join(DTYPES)}, got {dtype!r}')
    folder = model_path(name, 'drafter')
    kind = kind_of(folder)
    if kind == EVENT_DRAFTER:
        if dtype not in (AUTO, 'float32'):
            raise CrossSpecError(f'model.dtype of an event drafter must be float32 or {AUTO}, got {dtype}: it is so '
                                 'small that nothing is gained')
        return load_drafter(name, device)
    drafter = _captioning(folder, kind, device, dtype, allow_pickle)
    _LOG.info('%s in %s drafts from pictures of events', kind, folder)
    return _speaking(drafter, speaks)


def _captioning(folder: Path, kind: str, device: str, dtype: str, allow_pickle: bool) -> CaptioningDrafter:
    """EventGPT or a video-language model. Raises as above."""
    from crossspec_ros.models.drafters.captioning import CaptioningDrafter
    if dtype == AUTO:
        dtype = 'float32' if find_device(device).type == 'cpu' else 'bfloat16'
    if kind == EVENTGPT:
        from crossspec_ros.models.drafters.eventgpt import VIEW
        from crossspec_ros.models.drafters.eventgpt_folder import load_eventgpt
        return CaptioningDrafter(load_eventgpt(folder, device, dtype, allow_pickle), VIEW)
    if dtype == FOUR_BIT:
        raise CrossSpecError(f'model.dtype {FOUR_BIT} is for EventGPT, got it for the {kind} in {folder}; use '
                             'bfloat16, or a checkpoint that was saved in 4 bits')
    from crossspec_ros.models.targets import load_target
    return CaptioningDrafter(load_target(folder, device, dtype, allow_pickle=allow_pickle), PICTURES)


def _speaking(drafter: CaptioningDrafter, speaks: str) -> Drafter:
    """The drafter, in the tokens of the verifier in this folder where they are others than its own."""
    if not speaks:
        return drafter
    from crossspec_ros.models.drafters.retold import FolderWords, RetoldDrafter
    words = FolderWords(model_path(speaks, 'verifier'))
    return drafter if words.key == drafter.tokenizer_key else RetoldDrafter(drafter, words)
