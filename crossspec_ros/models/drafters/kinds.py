"""What a drafter's folder is, told from its config.json alone; nothing is loaded."""
from __future__ import annotations

from pathlib import Path

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.builtin import model_path
from crossspec_ros.models.files import read_object

EVENT_DRAFTER, EVENTGPT, VIDEO_MODEL = 'event drafter', 'EventGPT', 'video-language model'
_EVENT_DRAFTER_TYPE = 'crossspec_event_drafter'          # as `models.drafter`, which needs torch, has it
_EVENTGPT_TYPE, _EVENTGPT_CLASS = 'eventchat_llama', 'EventChat'


def kind_of(folder: Path) -> str:
    """`EVENT_DRAFTER`, `EVENTGPT` or `VIDEO_MODEL`. Raises `CrossSpecError` for a folder that is none of them."""
    path = folder / 'config.json'
    if not path.is_file():
        raise CrossSpecError(f'drafter must be a checkpoint folder with a config.json, {folder} has none; copy or '
                             'learn it again')
    config = read_object(path)
    kind, named = config.get('model_type'), config.get('architectures')
    if kind == _EVENT_DRAFTER_TYPE:
        return EVENT_DRAFTER
    if str(kind).lower() == _EVENTGPT_TYPE or _EVENTGPT_CLASS in str(named):
        return EVENTGPT
    if (kind is not None or named is not None) and _takes_pictures(config):
        return VIDEO_MODEL
    raise CrossSpecError(f'drafter must be an event drafter (`crossspec learn` makes one), EventGPT (model_type '
                         f'EventChat_llama) or a video-language model of transformers, got model_type {kind!r} in '
                         f'{path}')


def _takes_pictures(config: dict[str, object]) -> bool:
    """Whether transformers has a class for it that takes pictures and makes text."""
    from crossspec_ros.models import vision_ops  # noqa: F401, I001 - before transformers is imported
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as known

    from crossspec_ros.models.folder import class_names
    return bool(set(class_names(config)) & set(known.values()))


def drafts_only(path: str | Path) -> bool:
    """Whether a path is the folder of a drafter that cannot be a verifier."""
    folder = Path(path).expanduser()
    if not (folder / 'config.json').is_file():
        return False
    try:
        return kind_of(folder) != VIDEO_MODEL
    except CrossSpecError:                                       # what it is then, those say who load it
        return False


def describe(name: str | Path) -> str:
    """What a drafter is and whose words it speaks, in a few words for people. Raises as `kind_of` does."""
    folder = model_path(name, 'drafter')
    kind = kind_of(folder)
    if kind != EVENT_DRAFTER:
        seen = 'five pictures of the last events' if kind == EVENTGPT else 'pictures of the events'
        return f'{kind}, which captions {seen} and was trained for no verifier of yours'
    config = read_object(folder / 'config.json')
    words = len(config.get('kept_ids') or ()) or config.get('vocab_size')
    learned = config.get('verifier_key')
    return f'{kind} of {words} words, ' + (f'which learned from the verifier {learned}' if learned else
                                           'which does not say from which verifier it learned')
