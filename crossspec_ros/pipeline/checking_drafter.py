"""What a drafter's folder is, and whether it drafts here: a draft of a window without events, and what it takes."""
from __future__ import annotations

from pathlib import Path
from typing import Any

from crossspec_ros.models.drafters.kinds import EVENTGPT, describe, kind_of
from crossspec_ros.models.drafters.load import load_any_drafter
from crossspec_ros.models.tokenizer import question_of
from crossspec_ros.pipeline.views import build_view
from crossspec_ros.timing.window import WindowGrid

_BYTES = 1 << 20


def check_drafter(path: str, device: str, dtype: str, prompt: str, max_tokens: int) -> dict[str, Any]:
    """What a drafter is, the view it eats, its keys, and a draft with its time in ms; of EventGPT too whether that is
    what the ``generate`` of its decoder says. Raises `CrossSpecError` where it cannot be loaded.
    """
    said = describe(path)
    drafter = load_any_drafter(path, device, dtype)
    seen = build_view(drafter.view, WindowGrid(), lead_ns=0, max_bytes=_BYTES).nothing()
    drafter.draft(seen, prompt=prompt, max_tokens=1)             # what is slow only once
    made = drafter.draft(seen, prompt=prompt, max_tokens=max_tokens)
    report = {'path': path, 'refused': None, 'drafter': said, 'view': str(drafter.view),
              'tokenizer_key': drafter.tokenizer_key, 'verifier_key': drafter.verifier_key,
              'tokens': len(made.token_ids), 'draft_ms': made.compute_ms, 'text': made.text}
    if kind_of(Path(path).expanduser()) == EVENTGPT:
        expected = drafter.target.generate(seen, question_of(prompt), max_tokens)
        report['identical'] = tuple(made.token_ids) == tuple(expected)
    return report


def text_of(path: str, report: dict[str, Any]) -> str:
    """The report for people."""
    if report['refused'] is not None:
        return f'{path}: refused\n  {report["refused"]}'
    lines = [f'{path}: {report["drafter"]}', f'  eats {report["view"]}',
             f'  {report["tokens"]} tokens from no events in {report["draft_ms"]:.0f} ms: {report["text"]!r}',
             '  give it to the graph as drafter_model (crossspec up --drafter-model)']
    if 'identical' in report:
        lines.insert(3, '  its draft is ' + ('what' if report['identical'] else 'NOT what') +
                     ' the generate of its own decoder says')
    return '\n'.join(lines)
