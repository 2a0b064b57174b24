"""A record of a demo made by hand: twelve windows of the kinds that occur."""
from crossspec_ros.speculation.types import Caption, Draft, Mode, Stage, Verdict, prefix_hash
from crossspec_ros.view.record import Diagnostic, Latency, Recorder

SECOND = 1_000_000_000
START = 1_700_000_000
WORDS = ('a red car drives ahead on a straight road by day',
         'a blue van crosses from the left while the ego car brakes',
         'a cyclist in white rides on the right by dusk', 'nothing is near on a wet road at night')


def draft(window_id: int, text: str, revision: int = 0) -> Draft:
    ids = tuple(range(10, 10 + len(text.split())))
    return Draft(window_id, window_id * SECOND, revision, 'prompt', 'tok', text, ids, events_used=52_000,
                 compute_ms=11.0)


def caption(window_id: int, text: str, stage: Stage = Stage.FINAL, stable: int | None = None) -> Caption:
    ids = tuple(range(10, 10 + len(text.split())))
    return Caption(window_id, window_id * SECOND, stage, text, len(text) if stable is None else stable, ids,
                   Mode.CROSS_MODAL, True, drafted=40, accepted=len(ids) - 1, target_passes=2,
                   frame_stamps_ns=(window_id * SECOND,),
                   stage_ms={'encode': 9.0, 'prefill': 21.0, 'verify': 30.0, 'total': 61.0}, answer_ms=61.0)


def latency(window_id: int, draft_age: float | None, caption_age: float | None, misses: int = 0) -> Latency:
    return Latency(window_id, None if draft_age is None else draft_age - 110, draft_age,
                   None if caption_age is None else caption_age - 20, caption_age, 11.0, {'verify': 30.0},
                   'cross_modal',
                   False, caption_age is not None and caption_age > 150, misses, 0)


def record(windows: int = 12) -> Recorder:
    """Window 5 has no caption; every fourth draft is wrong in one word; the rest is as it should be."""
    recorder = Recorder()
    for i in range(windows):
        window_id, text = START + i, WORDS[i % len(WORDS)]
        guess = text.replace('car', 'truck', 1) if i % 4 == 0 else text
        recorder.add_draft(draft(window_id, guess), -95.0, 1_000 + i)
        recorder.add_draft(draft(window_id, guess, 1), 22.0 + i, 2_000 + i)
        if i != 5:
            recorder.add_caption(caption(window_id, text[:9], Stage.PARTIAL), 60.0)
            recorder.add_caption(caption(window_id, text), 101.0 + 6 * i)
            ids = caption(window_id, text).token_ids
            recorder.add_verdict(Verdict(window_id, window_id * SECOND, ids, prefix_hash(ids), 2, True,
                                         accepted={'memory': 5, 'event_drafter': 3},
                                         drafted={'memory': 20, 'event_drafter': 10}))
        recorder.add_latency(latency(window_id, 22.0 + i, None if i == 5 else 101.0 + 6 * i, int(i > 6)),
                             window_id * SECOND)
    recorder.add_diagnostic('drafter: events', Diagnostic(0, 'ok', {'packets': '120', 'events': '6000'}))
    return recorder
