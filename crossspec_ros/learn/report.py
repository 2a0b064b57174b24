"""``report.html`` of what was learned: one file, readable offline."""
from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from crossspec_ros.demo.report import data_uri, page_environment
from crossspec_ros.learn import plots
from crossspec_ros.learn.lessons import Lesson
from crossspec_ros.speculation.target import Target
from crossspec_ros.view.words import compare

REPORT_PAGE = 'report.html'
_SAMPLES = 16
_FEW_MINUTES, _FEW_HELD, _FLAT, _OFTEN_LOST = 15.0, 60, 0.05, 0.1

DEFINITIONS = {
    'tau': 'tokens a pass: tokens of the captions, end tokens included, per forward of the verifier; 1 without drafts',
    'held out': 'the last fifth of each drive, never learned from; all figures are of it',
    'where the caption is new': 'windows whose caption is not that of the window before, where the past says least',
    'event drafter': 'what it says of all of a window\'s events; again where the verifier departs from that',
    'caption age': 'time of the verifier\'s forwards after a window\'s newest frame is encoded, from the passes '
                   'counted and the measured cost of a forward; modelled, not measured. Rehearsals and bigrams of '
                   'the verifier, which the graph has too, are left out',
    'heads': 'small networks on the verifier\'s own states, which draft once it has spoken (model.heads). The time of '
             'their forwards was measured on the device that learned, and is part of the ages; a head pays where '
             'captions come sooner with it beside all other sources by more than chance',
    'bars': '95% of tau, resampled in blocks of ten neighbouring windows'}


def samples(target: Target, held: Sequence[Lesson], texts: Sequence[str]) -> list[dict[str, Any]]:
    """Some held-out windows, spread evenly: what was drafted, what the verifier said."""
    chosen = sorted({round(place * (len(held) - 1) / max(1, _SAMPLES - 1)) for place in range(_SAMPLES)})
    found = []
    for row in chosen:
        window = held[row].window
        found.append({'drive': held[row].drive, 'end_ns': window.end_ns, 'draft': texts[row],
                      'caption': target.decode(window.answers[0].token_ids.tolist()),
                      'jpeg': base64.b64encode(window.jpeg).decode('ascii')})
    return found


def verdict(report: Mapping[str, Any]) -> str:
    """Whether the drafter pays, in a sentence."""
    arms = report['arms']
    with_it, without = arms['merged'], arms['merged_without']
    ages = f'{with_it["age_ms"]["mean"]:.0f} ms a caption instead of {without["age_ms"]["mean"]:.0f} (modelled)'
    if report['pays']:
        return (f'This drafter pays: with it the verifier says {with_it["tau"]:.2f} tokens a pass instead of '
                f'{without["tau"]:.2f}, and its forwards after the newest frame take {ages}.')
    return (f'This drafter does not pay: {with_it["tau"]:.2f} tokens a pass with it and {without["tau"]:.2f} without, '
            f'{ages}. Leave it out until it has learned from more.')


def head_verdicts(report: Mapping[str, Any]) -> list[str]:
    """Whether each head pays, in a sentence each."""
    arms, told = report['arms'], []
    for kind, head in report['heads'].items():
        low_high, later_ms = head['age_over_merged_95'], head['age_over_merged_ms']
        told.append(
            f'The head {kind} {"pays" if head["pays"] else "does not pay"}: alone {arms[kind]["tau"]:.2f} tokens a '
            f'pass; beside all other sources {arms[f"merged_{kind}"]["tau"]:.2f} instead of '
            f'{arms["merged"]["tau"]:.2f}, and captions come {abs(later_ms):.1f} ms '
            f'{"sooner" if later_ms < 0 else "later"} on the mean'
            + (f' (95%: {low_high[0]:+.1f} to {low_high[1]:+.1f})' if low_high else '')
            + f', modelled, with its own forwards of {head["draft_ms"]:.1f} ms a draft.')
    return told


def _head_advice(report: Mapping[str, Any]) -> list[str]:
    if not report['heads']:
        return []
    load, words = report['heads_to_load'], ', '.join(report['heads'])
    if not load:
        return [f'Load none of the heads ({words}): captions do not come sooner with them. They may where drives '
                'differ more, or after longer training (--steps).']
    folders = ','.join(f'{report["out"]}/heads/{kind}' for kind in load)
    return [f'Load {"this head" if len(load) == 1 else "these heads"} in the verifier: crossspec up --param '
            f'\'verifier:model.heads=[{folders}]\'.']


def advice(report: Mapping[str, Any]) -> list[str]:
    """What to do next, a sentence each."""
    arms, curve, found = report['arms'], report['curve'], []
    if report['pays']:
        found.append('Drive with it: drafter_model:= this folder.')
    found += _head_advice(report)
    if len(curve) > 1 and curve[-1]['tau'] > (1 + _FLAT) * curve[-2]['tau']:
        found.append('Record more: tokens a pass still grow with the minutes learned from.')
    elif report['minutes_learned'] < _FEW_MINUTES:
        found.append(f'Record more: {report["minutes_learned"]:g} minutes are few to learn from. Drives that differ, '
                     'in weather, time of day and roads, teach more than long ones that do not.')
    if arms['event_drafter']['tau'] <= 1.3:
        found.append('The drafter hardly says what the verifier says. Look whether both cameras see the same road at '
                     'the same time: `crossspec bag info` and docs/time.md.')
    if len(report['prompts']) == 1:
        found.append('It knows one question. Name the others that you ask with further --prompt.')
    if report['windows']['held_out'] < _FEW_HELD:
        found.append(f'{report["windows"]["held_out"]} windows were held out: these figures are rough.')
    lost, answered = sum(report['lost'].values()), report['windows']['learned'] + report['windows']['held_out']
    if lost > _OFTEN_LOST * answered:
        found.append(f'{lost} windows, frames or packets could not be used, more than a tenth of what was: mend the '
                     'recording first (`crossspec bag info`).')
    return found or ['Nothing: try other drives, more steps (--steps), or another --base.']


def render_page(report: Mapping[str, Any]) -> str:
    """The page."""
    start = {}
    for sample in report['samples']:
        start.setdefault(sample['drive'], sample['end_ns'])
    cards = [{**sample, 'at_s': (sample['end_ns'] - start[sample['drive']]) / 1e9,
              'picture': data_uri(base64.b64decode(sample['jpeg'])) if sample['jpeg'] else None,
              'runs': compare(sample['draft'], sample['caption'])} for sample in report['samples']]
    base = report['arms'].get('base_drafter')
    drawn = {'arms': plots.tau_by_arm(report['arms']), 'positions': plots.acceptance_over_positions(report['arms']),
             'curve': plots.tau_over_minutes(report['curve'], base and base['tau']),
             'loss': plots.loss_over_steps(report['losses'])}
    template = page_environment('crossspec_ros.learn').get_template('learned.html.jinja')
    return template.render(report=report, cards=cards, plots=drawn, verdict=verdict(report), labels=plots.ARM_LABELS,
                           heads=head_verdicts(report), definitions=DEFINITIONS)
