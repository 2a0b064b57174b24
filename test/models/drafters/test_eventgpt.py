"""EventGPT in its published layout, against stock parts of transformers that are put together here."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_eventgpt import IMAGE, StockParts, write_eventgpt
from transformers import CLIPImageProcessor

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.models.drafters.eventgpt import VIEW
from crossspec_ros.models.drafters.eventgpt_folder import load_eventgpt
from crossspec_ros.models.drafters.load import load_any_drafter
from crossspec_ros.speculation.tree import TokenTree

QUESTION = 'What is happening?'
SYSTEM = ("A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, "
          "detailed, and polite answers to the user's questions.")


def pictures(seed: int = 0) -> tuple[np.ndarray, ...]:
    """Five canvases of events, each of its own size."""
    generator = np.random.default_rng(seed)
    made = []
    for number in range(5):
        canvas = np.full((40 + 3 * number, 60 - number, 3), 255, np.uint8)
        canvas[generator.random(canvas.shape[:2]) < 0.2] = (255, 0, 0)
        canvas[generator.random(canvas.shape[:2]) < 0.2] = (0, 0, 255)
        made.append(canvas)
    return tuple(made)


@torch.inference_mode()
def stock_rows(parts: StockParts, tokenizer, seen, question: str = QUESTION) -> torch.Tensor:
    """Rows (1, T, D) of the whole prompt, by CLIP's own processor, tower, and the embeddings of the decoder."""
    processor = CLIPImageProcessor(size={'shortest_edge': IMAGE}, crop_size={'height': IMAGE, 'width': IMAGE})
    pixels = torch.stack([torch.as_tensor(np.asarray(processor(each, return_tensors='pt')['pixel_values'][0]))
                          for each in seen])
    embed = parts.decoder.get_input_embeddings()
    before, after = (torch.tensor(tokenizer(text)['input_ids']) for text in (
        f'{SYSTEM} USER: <ev_start>', f'<ev_end>\n{question} ASSISTANT:'))
    return torch.cat([embed(before), parts.features(pixels), embed(after)])[None]


@torch.inference_mode()
def stock_greedy(parts: StockParts, rows: torch.Tensor, count: int, banned) -> tuple[list[int], list[torch.Tensor]]:
    """Greedy tokens and the logits behind them, the whole sequence through the decoder for each."""
    tokens, logits = [], []
    for _ in range(count):
        said = parts.decoder(inputs_embeds=rows).logits[0, -1]
        logits.append(said.clone())
        said[list(banned)] = float('-inf')
        tokens.append(int(said.argmax()))
        if tokens[-1] == 1:
            break
        rows = torch.cat([rows, parts.decoder.get_input_embeddings()(torch.tensor([[tokens[-1]]]))], 1)
    return tokens, logits


@pytest.mark.parametrize('changes', [
    pytest.param({}, id='one file'), pytest.param({'prefix': 'vision_model.'}, id='older names'),
    pytest.param({'shards': 3}, id='shards'), pytest.param({'marks': False}, id='marks only in the config'),
    pytest.param({'pickled': True}, id='pickled')])
def test_logits_are_those_of_stock_parts(tmp_path: Path, changes: dict) -> None:
    parts = write_eventgpt(tmp_path / 'gpt', **changes)
    target = load_eventgpt(tmp_path / 'gpt', allow_pickle='pickled' in changes)
    seen = pictures()
    rows = stock_rows(parts, target.tokenizer, seen)
    tokens, expected = stock_greedy(parts, rows, 12, target.banned_ids)

    layout = target.layout(QUESTION, 5, 2, 2)
    assert layout.groups[0].tokens == 5 + (IMAGE // 14) ** 2 + 1
    made = target.encode(layout, 0, seen)
    start = len(layout.segments[0].rows)
    torch.testing.assert_close(made, rows[0, start:start + len(made)], atol=2e-6, rtol=1e-5)
    assert torch.equal(layout.segments[0].rows, rows[0, :start])
    assert torch.equal(layout.tail, rows[0, start + len(made):])

    cache = target.new_cache(layout, layout.length + 20)
    feed = torch.cat([layout.segments[0].rows, made, layout.tail])
    for place, (token, logits) in enumerate(zip(tokens, expected, strict=True)):
        judged = target.verify(cache, feed, TokenTree(), tokens[:place]).logits[0]
        kept = torch.isfinite(judged)
        torch.testing.assert_close(judged[kept], logits[kept], atol=2e-5, rtol=1e-5)
        feed = target.embed([token])


def test_draft_is_the_greedy_caption_and_goes_on_from_a_prefix(tmp_path: Path) -> None:
    parts = write_eventgpt(tmp_path / 'gpt')
    drafter = load_any_drafter(tmp_path / 'gpt')
    seen, banned = pictures(1), drafter.target.banned_ids
    tokens, _ = stock_greedy(parts, stock_rows(parts, drafter.target.tokenizer, seen), 10, banned)
    assert len(tokens) == 10 and drafter.view is VIEW and drafter.verifier_key == ''
    made = drafter.draft(seen, prompt=QUESTION, max_tokens=10)
    assert list(made.token_ids) == tokens and made.parents == ()
    again = drafter.draft(seen, prompt=QUESTION, prefix_ids=tokens[:4], max_tokens=6)        # what was read is kept
    assert list(again.token_ids) == tokens[4:] and again.text == made.text
    other = (tokens[0] + 7) % 200 + 10                              # a verdict that departs from the draft
    rows = stock_rows(parts, drafter.target.tokenizer, seen)
    embed = parts.decoder.get_input_embeddings()
    expected, _ = stock_greedy(parts, torch.cat([rows, embed(torch.tensor([[other]]))], 1), 6, banned)
    assert list(drafter.draft(seen, prompt=QUESTION, prefix_ids=[other], max_tokens=6).token_ids) == expected
    for shown, question in ((seen, 'Where are we?'), (pictures(2), 'Where are we?')):        # nothing is left of before
        asked = stock_rows(parts, drafter.target.tokenizer, shown, question)
        expected, _ = stock_greedy(parts, asked, 8, banned)
        assert list(drafter.draft(shown, prompt=question, max_tokens=8).token_ids) == expected
    assert tuple(drafter.target.generate(seen, QUESTION, 10)) == tuple(tokens)


def test_draft_stops_between_tokens_and_while_it_reads(tmp_path: Path) -> None:
    write_eventgpt(tmp_path / 'gpt')
    drafter, asked = load_any_drafter(tmp_path / 'gpt'), []

    def stop_after(count):
        return lambda: asked.append(0) or len(asked) > count

    whole = drafter.draft(pictures(), prompt=QUESTION, max_tokens=12).token_ids
    asked.clear()
    stopped = drafter.draft(pictures(3), prompt=QUESTION, max_tokens=12, should_stop=stop_after(0))
    assert stopped.token_ids == () and len(asked) == 1                # before the pictures were encoded
    asked.clear()
    said = drafter.draft(pictures(), prompt=QUESTION, max_tokens=12, should_stop=stop_after(5)).token_ids
    assert 0 < len(said) < 12 and said == whole[:len(said)]
    assert drafter.draft(pictures(), prompt=QUESTION, max_tokens=12).token_ids == whole


def _config(folder: Path, **changes) -> None:
    path = folder / 'config.json'
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: value for name, value in content.items() if value != 'gone'}))


@pytest.mark.parametrize('damage, words', [
    pytest.param(lambda folder: _config(folder, mm_visual_tower='openai/other'), 'mm_visual_tower', id='other tower'),
    pytest.param(lambda folder: _config(folder, num_hidden_layers=3), 'missing', id='a layer more'),
    pytest.param(lambda folder: _config(folder, quantization_config={'quant_method': 'awq'}), 'not quantised',
                 id='quantised'),
    pytest.param(lambda folder: (folder / 'tokenizer.json').unlink(), 'tokenizer', id='no tokenizer'),
    pytest.param(lambda folder: (folder / 'model.safetensors').write_bytes(b'\0' * 40), 'safetensors', id='cut'),
    pytest.param(lambda folder: (folder / 'tower' / 'config.json').write_text(json.dumps(
        json.loads((folder / 'tower' / 'config.json').read_text()) | {'num_hidden_layers': 3})), 'tower', id='tower'),
])
def test_what_does_not_fit_is_refused_in_a_sentence(tmp_path: Path, damage, words: str) -> None:
    write_eventgpt(tmp_path / 'gpt')
    damage(tmp_path / 'gpt')
    with pytest.raises(CrossSpecError, match=words) as caught:
        load_eventgpt(tmp_path / 'gpt')
    assert '\n' not in str(caught.value)


def test_a_missing_adaptor_is_refused_where_the_config_asks_for_it(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file
    write_eventgpt(tmp_path / 'gpt')
    path = tmp_path / 'gpt' / 'model.safetensors'
    weights = {name: value for name, value in load_file(path).items() if 'feature_adaptor' not in name}
    save_file(weights, path, metadata={'format': 'pt'})
    with pytest.raises(CrossSpecError, match='feature_adaptor'):
        load_eventgpt(tmp_path / 'gpt')


def test_more_tokens_than_rows_are_refused(tmp_path: Path) -> None:
    write_eventgpt(tmp_path / 'gpt', tokens=330)
    with pytest.raises(CrossSpecError, match='the model only 320'):
        load_eventgpt(tmp_path / 'gpt')


def test_four_bits_without_their_library_are_refused(tmp_path: Path, monkeypatch) -> None:
    from crossspec_ros.models.drafters import eventgpt_folder
    write_eventgpt(tmp_path / 'gpt')
    monkeypatch.setattr(eventgpt_folder, 'find_spec', lambda name: None)
    with pytest.raises(CrossSpecError, match='bitsandbytes, which is not installed'):
        load_any_drafter(tmp_path / 'gpt', dtype='4bit')


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_sixteen_bits_draft(tmp_path: Path, dtype: str) -> None:
    write_eventgpt(tmp_path / 'gpt')
    drafter = load_any_drafter(tmp_path / 'gpt', dtype=dtype)
    made = drafter.draft(pictures(), prompt=QUESTION, max_tokens=6)
    assert drafter.target.dtype == getattr(torch, dtype) and 1 <= len(made.token_ids) <= 6
