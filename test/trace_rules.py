"""The rules of the trace event format that viewers rely on, as "Trace Event Format" tells them."""
from collections import defaultdict

_NEEDED = {'X': {'name', 'ts', 'dur', 'pid', 'tid'}, 'i': {'name', 'ts', 'pid', 'tid', 's'},
           'M': {'name', 'pid', 'args'}}
_TOLERANCE_US = 0.01            # times are rounded to ns


def broken(events):
    """What is wrong with a timeline's events, in words; empty where a viewer can show them."""
    wrong, named = [], {'process_name': set(), 'thread_name': set()}
    rows = defaultdict(list)
    for event in events:
        phase = event.get('ph')
        if phase not in _NEEDED or not _NEEDED[phase] <= set(event):
            wrong.append(f'a phase or a field is missing: {event}')
            continue
        if phase == 'M':
            if event['name'] in named:
                named[event['name']].add((event['pid'], event['tid'])[:2 if event['name'] == 'thread_name' else 1])
                if not isinstance(event['args']['name'], str):
                    wrong.append(f'a name is no text: {event}')
            continue
        if not all(isinstance(event[key], (int, float)) for key in ('ts', 'pid', 'tid')) or event['ts'] < 0:
            wrong.append(f'no number: {event}')
        if phase == 'i' and event['s'] not in ('g', 'p', 't'):
            wrong.append(f'no scope: {event}')
        if phase == 'X':
            if event['dur'] < 0:
                wrong.append(f'it ends before it begins: {event}')
            rows[event['pid'], event['tid']].append(event)
        if (event['pid'],) not in named['process_name']:
            wrong.append(f'a process without a name: {event}')
        if (event['pid'], event['tid']) not in named['thread_name']:
            wrong.append(f'a thread without a name: {event}')
    for row in rows.values():
        wrong += _unnested(row)
    return wrong


def _unnested(row):
    """Slices of a thread that overlap another without lying in it."""
    wrong, ends = [], []
    for event in sorted(row, key=lambda each: (each['ts'], -each['dur'])):
        while ends and ends[-1] <= event['ts'] + _TOLERANCE_US:
            ends.pop()
        end = event['ts'] + event['dur']
        if ends and end > ends[-1] + _TOLERANCE_US:
            wrong.append(f'it reaches out of what holds it: {event}')
        ends.append(end)
    return wrong
