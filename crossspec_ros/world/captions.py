"""What is said of a window: slots, the captions made of them, and the way back from text to slots.

The wording varies, but every choice is a function of the slots, so that a caption is a fact about the scene. What
events can show (object, motion, place, ego, a second road user) is said first, what only RGB can show (colour,
signal, light) last.
"""
from __future__ import annotations

import re

import numpy as np

DESCRIBE = 'What is happening?'
AHEAD = 'What is ahead?'
SAFE = 'Is it safe to go?'
CHANGED = 'What changed?'
QUESTIONS = (DESCRIBE, AHEAD, SAFE, CHANGED)

VEHICLES = ('car', 'van', 'truck', 'bus')
OBJECTS = ('car', 'van', 'truck', 'bus', 'motorcycle', 'cyclist', 'pedestrian', 'none')
COLOURS = ('red', 'blue', 'green', 'yellow', 'white', 'black', 'none')
PLACES = ('left', 'ahead', 'right', 'none')
MOTIONS = ('driving', 'braking', 'oncoming', 'crossing', 'overtaking', 'cutting in', 'parked', 'waiting', 'walking',
           'none')
EGOS = ('stopped', 'slow', 'fast', 'braking', 'turning left', 'turning right')
LIGHTS = ('day', 'dusk', 'night', 'rain', 'fog')
SIGNALS = ('none', 'red light', 'green light', 'stop sign')
SECONDS = ('none', 'car left', 'car right', 'pedestrian left', 'pedestrian right')
SLOTS: dict[str, tuple[str, ...]] = {
    'object': OBJECTS, 'colour': COLOURS, 'place': PLACES, 'motion': MOTIONS, 'ego': EGOS, 'weather': LIGHTS,
    'signal': SIGNALS, 'second': SECONDS}

_SIDE = {'left': 'on the left', 'ahead': 'straight ahead', 'right': 'on the right', 'none': ''}
_MOTION = {  # motion -> wording for each variant; {s} is the side
    'driving': ('is travelling {at}', 'keeps pace with us {at}'),
    'braking': ('is braking hard {at}', 'slows down sharply {at}'),
    'oncoming': ('is coming towards us {at}', 'comes closer {at}'),
    'crossing': ('is crossing from the {s}', 'crosses our way from the {s}'),
    'overtaking': ('is overtaking us {at}', 'pulls past us {at}'),
    'cutting in': ('is cutting in from the {s}', 'squeezes into our lane from the {s}'),
    'parked': ('is parked {at}', 'stands parked {at}'),
    'waiting': ('is waiting {at}', 'stands at the kerb {at}'),
    'walking': ('is walking {at}', 'walks along {at}'),
}
_EGO = {
    'stopped': ('We are stopped', 'We stand still'),
    'slow': ('We are driving slowly', 'We roll along slowly'),
    'fast': ('We are driving fast', 'We go at high speed'),
    'braking': ('We are braking', 'We brake'),
    'turning left': ('We are turning left', 'We turn to the left'),
    'turning right': ('We are turning right', 'We turn to the right'),
}
_SECOND = {'car': ('with a parked car {at}', 'and a car is parked {at}'),
           'pedestrian': ('with a pedestrian {at}', 'and a pedestrian stands {at}')}
_SIGNAL = {'red light': 'the light is red', 'green light': 'the light is green',
           'stop sign': 'there is a stop sign'}
_LIGHT = {'day': ('it is a clear day', 'it is day'), 'dusk': ('it is dusk', 'dusk is falling'),
          'night': ('it is night', 'it is dark night'), 'rain': ('it is raining', 'rain is falling'),
          'fog': ('it is foggy', 'there is fog')}
_CLEAR = 'The road ahead is clear and nobody is in our way'


def _variant(*indices: int) -> int:
    return sum(indices) % 2


def _joined(clauses: list[str]) -> str:
    """'a', 'a and b' or 'a, b and c' with a capital letter."""
    text = clauses[0] if len(clauses) == 1 else ', '.join(clauses[:-1]) + ' and ' + clauses[-1]
    return text[0].upper() + text[1:]


def _actor(slots: dict[str, str]) -> str:
    variant = _variant(OBJECTS.index(slots['object']), PLACES.index(slots['place']))
    words = _MOTION[slots['motion']][variant]
    return f"{slots['object']} {words.format(at=_SIDE[slots['place']], s=slots['place'])}"


def _colour(slots: dict[str, str]) -> str:
    verb = 'wears' if slots['object'] in ('pedestrian', 'cyclist') else 'is'
    return f"the {slots['object']} {verb} {slots['colour']}"


def caption(slots: dict[str, str]) -> str:
    """The caption of a window: three sentences, most important first."""
    first = _CLEAR if slots['object'] == 'none' else f'A {_actor(slots)}'
    variant = _variant(MOTIONS.index(slots['motion']), PLACES.index(slots['place']))
    second = _EGO[slots['ego']][variant]
    if slots['second'] != 'none':
        kind, side = slots['second'].split()
        second += ', ' + _SECOND[kind][variant].format(at=_SIDE[side])
    clauses = [] if slots['object'] == 'none' else [_colour(slots)]
    if slots['signal'] != 'none':
        clauses.append(_SIGNAL[slots['signal']])
    clauses.append(_LIGHT[slots['weather']][_variant(EGOS.index(slots['ego']))])
    return f'{first}. {second}. {_joined(clauses)}.'


def _ahead(slots: dict[str, str]) -> str:
    things = []
    if slots['object'] != 'none':
        things.append(f"a {slots['colour']} {slots['object']}" if slots['object'] != 'pedestrian'
                      else f"a pedestrian in {slots['colour']}")
    if slots['signal'] != 'none':
        things.append(f"a {slots['signal']}")
    return _joined(things) + '.' if things else 'Nothing but the open road.'


def _safe(slots: dict[str, str]) -> str:
    dangerous = slots['motion'] in ('crossing', 'braking', 'cutting in') or (
        slots['motion'] == 'oncoming' and slots['place'] == 'ahead')
    if dangerous:
        return f'No. A {_actor(slots)}.'
    if slots['signal'] in ('red light', 'stop sign'):
        return f"No. {_joined([_SIGNAL[slots['signal']]])}."
    if slots['object'] == 'none':
        return 'Yes. The way is clear.'
    return f'Yes, with care. A {_actor(slots)}.'


_CHANGE = {
    'driving': 'The {o} kept its distance', 'braking': 'The {o} came closer as it braked',
    'oncoming': 'The {o} came closer', 'crossing': 'The {o} moved across from the {s}',
    'overtaking': 'The {o} passed us', 'cutting in': 'The {o} changed into our lane',
    'waiting': 'The {o} did not move', 'parked': 'The {o} did not move', 'walking': 'The {o} walked on',
    'none': 'Nobody came'}
_EGO_CHANGE = {'stopped': 'we did not move', 'slow': 'we moved on a little', 'fast': 'we covered some distance',
               'braking': 'we lost speed', 'turning left': 'we swung to the left',
               'turning right': 'we swung to the right'}


def answers(slots: dict[str, str]) -> dict[str, str]:
    """The true answer to each of ``QUESTIONS``."""
    changed = _CHANGE[slots['motion']].format(o=slots['object'], s=slots['place'])
    return {DESCRIBE: caption(slots), AHEAD: _ahead(slots), SAFE: _safe(slots),
            CHANGED: f"{changed} and {_EGO_CHANGE[slots['ego']]}."}


def _find(text: str, table: dict[str, str]) -> str:
    """The value whose pattern comes first in the text, or ''."""
    hits = [(found.start(), value) for value, pattern in table.items() if (found := re.search(pattern, text))]
    return min(hits)[1] if hits else ''


def _pattern(words: str) -> str:
    """The wording up to its first hole."""
    return re.escape(words.split('{')[0].strip().lower())


_MOTION_PATTERN = {value: '|'.join(_pattern(w) for w in words) for value, words in _MOTION.items()}
_EGO_PATTERN = {value: '|'.join(_pattern(w) for w in words) + r'\b' for value, words in _EGO.items()}
_LIGHT_PATTERN = {value: '|'.join(_pattern(w) for w in words) for value, words in _LIGHT.items()}
_OBJECT_PATTERN = {value: rf'\b{value}\b' for value in OBJECTS if value != 'none'}
_COLOUR_PATTERN = {value: rf'\b(?:is|wears) {value}\b' for value in COLOURS if value != 'none'}
_PLACE_PATTERN = {'left': r'(?:on|from) the left', 'right': r'(?:on|from) the right', 'ahead': r'straight ahead'}


def parse_slots(text: str) -> dict[str, str]:
    """The slots a caption claims. Missing or unreadable ones are ''; never raises on any text."""
    sentences = [part.strip().lower() for part in text.split('.')]
    sentences += [''] * (3 - len(sentences))
    first, middle, last = sentences[:3]
    slots = dict.fromkeys(SLOTS, '')
    if first == _CLEAR.lower():
        slots |= {'object': 'none', 'colour': 'none', 'place': 'none', 'motion': 'none'}
    else:
        slots['object'] = _find(first, _OBJECT_PATTERN)
        slots['place'] = _find(first, _PLACE_PATTERN)
        slots['motion'] = _find(first, _MOTION_PATTERN)
        slots['colour'] = _find(re.sub(r'the light is \w+', '', last), _COLOUR_PATTERN)
    head, _, tail = middle.partition(',')
    slots['ego'] = _find(head, _EGO_PATTERN)
    if slots['ego']:
        kind = _find(tail, {'car': r'\bcar\b', 'pedestrian': r'\bpedestrian\b'})
        side = _find(tail, _PLACE_PATTERN)
        slots['second'] = f'{kind} {side}' if kind and side else '' if tail else 'none'
    slots['weather'] = _find(last, _LIGHT_PATTERN)
    if last:
        slots['signal'] = _find(last, {value: re.escape(words) for value, words in _SIGNAL.items()}) or 'none'
    return slots


def random_slots(rng: np.random.Generator) -> dict[str, str]:
    """Consistent slots at random (not every combination occurs in a drive)."""
    slots = {name: str(rng.choice(values)) for name, values in SLOTS.items()}
    if slots['object'] == 'none':
        return slots | {'colour': 'none', 'place': 'none', 'motion': 'none', 'second': 'none'}
    slots['colour'] = str(rng.choice(COLOURS[:-1]))
    if slots['object'] == 'pedestrian':
        slots['motion'] = str(rng.choice(['crossing', 'waiting', 'walking']))
    else:
        slots['motion'] = str(rng.choice(MOTIONS[:7]))
    sided = slots['motion'] in ('crossing', 'cutting in')
    slots['place'] = str(rng.choice(['left', 'right'] if sided else PLACES[:-1]))
    if slots['second'].endswith(slots['place']):
        slots['second'] = 'none'
    return slots


def sample_captions(n: int, seed: int) -> list[str]:
    """``n`` texts of the grammar (captions and answers), e.g. to train a tokenizer on."""
    rng = np.random.default_rng(seed)
    texts: list[str] = []
    while len(texts) < n:
        texts.extend(answers(random_slots(rng)).values())
    return texts[:n]
