from collections import Counter

import pytest

from crossspec_ros.world import SLOTS, World
from crossspec_ros.world.script import Script

DRIVES = range(40)
BEATS = 40


def _slots(pace: str = 'brisk') -> list[list[dict[str, str]]]:
    return [[script.beat(k).slots for k in range(BEATS)] for script in (Script(seed, pace) for seed in DRIVES)]


def test_script_values_are_known_and_all_of_them_occur():
    seen = {name: {beat[name] for drive in _slots() for beat in drive} for name in SLOTS}
    assert seen == {name: set(values) for name, values in SLOTS.items()}


@pytest.mark.parametrize('slot', SLOTS)
def test_script_no_value_of_a_slot_is_common_or_lasting_enough_to_guess(slot):
    drives = _slots()
    counts = Counter(beat[slot] for drive in drives for beat in drive)
    assert counts.most_common(1)[0][1] / (len(drives) * BEATS) < 0.55
    pairs = [(a[slot], b[slot]) for drive in drives for a, b in zip(drive, drive[1:])]
    assert sum(a == b for a, b in pairs) / len(pairs) < 0.6


def test_script_calm_drive_keeps_its_weather_longer():
    def changes(pace):
        return sum(a['weather'] != b['weather'] for drive in _slots(pace) for a, b in zip(drive, drive[1:]))
    assert changes('calm') * 4 < changes('brisk')


def test_script_is_the_same_in_whatever_order_it_is_read():
    there, back = Script(9), Script(9)
    forward = [there.beat(k) for k in range(20)]
    assert [back.beat(k) for k in reversed(range(20))] == forward[::-1]


def test_script_of_hours_keeps_few_beats_and_remembers_the_first(monkeypatch):
    monkeypatch.setattr('crossspec_ros.world.script._KEPT_BEATS', 32)
    short, whole = Script(9), Script(9)
    expected = [whole.beat(k) for k in range(30)]
    assert short.beat(300).start_s == 300
    assert len(short._beats) <= 36
    assert [short.beat(k) for k in range(30)] == expected
    assert Script(9).beat(300) == short.beat(300)


def test_script_road_user_goes_on_where_it_was():
    continued = 0
    for seed in DRIVES:
        script = Script(seed)
        for k in range(1, BEATS):
            old, new = script.beat(k - 1), script.beat(k)
            if not new.first and old.tracks and new.tracks and new.tracks[0].kind == old.tracks[0].kind:
                continued += 1
                assert new.tracks[0].x[0] == pytest.approx(old.tracks[0].x[1])
                assert new.tracks[0].z[0] == pytest.approx(old.tracks[0].z[1])
    assert continued > 50


@pytest.mark.parametrize('seed', range(4))
def test_truth_everything_named_is_in_the_picture(seed):
    world = World(seed, 160, 120)
    for end in range(1, 13):
        truth = world.truth(float(end))
        slots, names = truth.slots, [box.name for box in truth.boxes]
        if slots['object'] != 'none':
            salient = (slots['object'], slots['colour'])
            x0, y0, x1, y1 = next(b.box for b in truth.boxes if (b.name, b.colour) == salient)
            assert 0 <= x0 < x1 <= 160 and 0 <= y0 < y1 <= 120
            assert max(x1 - x0, y1 - y0) >= 17                      # 12 px of a 112 px picture
        if slots['signal'] != 'none':
            assert slots['signal'] in names
        if slots['second'] != 'none':
            assert slots['second'].split()[0] in [b.name for b in truth.boxes if b.colour == 'grey']
        assert len(names) == (slots['object'] != 'none') + (slots['signal'] != 'none') + (slots['second'] != 'none')


def test_truth_place_is_where_the_box_is():
    for seed in range(6):
        world = World(seed, 96, 72)
        for end in range(1, 9):
            truth = world.truth(float(end))
            slots = truth.slots
            if slots['motion'] in ('none', 'crossing', 'cutting in'):
                continue                                             # these say where it comes from
            x0, _, x1, _ = next(b.box for b in truth.boxes if b.colour == slots['colour'])
            middle = (x0 + x1) / 2 / 96
            assert {'left': middle < 0.45, 'right': middle > 0.55, 'ahead': 0.4 < middle < 0.6}[slots['place']], slots
