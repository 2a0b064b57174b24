"""A second small verifier that the built-in drafter has never heard: another class, tokenizer, question and wording.

``python test/learn/second_verifier.py DIR`` derives it from the built-in one in some minutes: the same eyes in a
`LlavaOnevisionForConditionalGeneration`, its decoder's layers as a Qwen2, a vocabulary of its own, and a short training
on the driving world to write log entries. It is a test object and is not shipped.
"""
from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from families.named import LLAVA, LLAVA_CHAT, ids, pixels                                     # noqa: E402
from families.parts import BOS, EOS, PAD, UNK, Shape                                          # noqa: E402

from crossspec_ros.models.builtin import builtin_path                                         # noqa: E402
from crossspec_ros.models.vision_ops import load_vision_ops                                   # noqa: E402
from crossspec_ros.world import World                                                         # noqa: E402
from crossspec_ros.world.captions import random_slots                                         # noqa: E402

QUESTION = 'Write the log entry.'
FIRST_SEED = 700_000             # drives that neither pair is trained nor judged on
_EGO = {'stopped': 'at standstill', 'slow': 'creeping forward', 'fast': 'moving at speed', 'braking': 'decelerating',
        'turning left': 'swinging to port', 'turning right': 'swinging to starboard'}
_PLACE = {'left': 'port side', 'ahead': 'dead ahead', 'right': 'starboard side', 'none': 'nowhere'}
_MOTION = {'driving': 'holding its speed', 'braking': 'losing speed quickly', 'oncoming': 'approaching head on',
           'crossing': 'passing in front', 'overtaking': 'going past', 'cutting in': 'merging tightly',
           'parked': 'left at the roadside', 'waiting': 'holding position', 'walking': 'proceeding on foot',
           'none': 'idle'}
_LIGHT = {'day': 'daylight', 'dusk': 'low sun', 'night': 'darkness', 'rain': 'wet weather', 'fog': 'poor visibility'}
_SIZE = 112


def log_entry(slots: dict[str, str]) -> str:
    """What is true of a window in this verifier's words."""
    if slots['object'] == 'none':
        first = f'Log: vehicle {_EGO[slots["ego"]]}, no contact reported'
    else:
        first = (f'Log: vehicle {_EGO[slots["ego"]]}, contact {_PLACE[slots["place"]]}, '
                 f'{slots["object"]} {_MOTION[slots["motion"]]}, paint {slots["colour"]}')
    second = '' if slots['second'] == 'none' else '; second contact {}, {}'.format(
        _PLACE[slots['second'].split()[1]], slots['second'].split()[0])
    signal = 'no signal' if slots['signal'] == 'none' else f'signal {slots["signal"]}'
    return f'{first}{second}; {signal}; conditions {_LIGHT[slots["weather"]]}, end of entry.'


def _tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast
    generator = np.random.default_rng(0)
    texts = [f' {log_entry(random_slots(generator))}' for _ in range(2000)] + [QUESTION, 'USER: ', 'ASSISTANT:'] * 20
    inner = Tokenizer(models.BPE(unk_token=UNK))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=700, special_tokens=[BOS, EOS, UNK, PAD, '<image>', '<video>'], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token=BOS, eos_token=EOS, unk_token=UNK,
                                        pad_token=PAD, extra_special_tokens=LLAVA)
    tokenizer.chat_template = LLAVA_CHAT
    return tokenizer


def _derived(tokenizer, layers: int):
    """The model with the built-in one's weights where they fit."""
    import transformers as t
    old = t.VideoLlavaForConditionalGeneration.from_pretrained(builtin_path('verifier'), dtype=torch.float32).eval()
    text = old.config.text_config
    config = t.LlavaOnevisionConfig(
        vision_config=old.config.vision_config.to_dict(), vision_feature_select_strategy='default',
        vision_feature_layer=-1, image_grid_pinpoints=[[_SIZE, _SIZE]], tie_word_embeddings=True,
        text_config=dict(
            model_type='qwen2', vocab_size=len(tokenizer), hidden_size=text.hidden_size,
            intermediate_size=text.intermediate_size, num_hidden_layers=layers,
            num_attention_heads=text.num_attention_heads, num_key_value_heads=text.num_key_value_heads,
            head_dim=text.head_dim, rms_norm_eps=text.rms_norm_eps, max_position_embeddings=1024, bos_token_id=0,
            eos_token_id=1, pad_token_id=3, tie_word_embeddings=True,
            rope_parameters={'rope_type': 'default', 'rope_theta': 10000.0}),
        **ids(tokenizer, image_token_index='<image>', video_token_index='<video>'))
    torch.manual_seed(0)
    model = t.LlavaOnevisionForConditionalGeneration(config).eval()
    model.model.vision_tower.load_state_dict(old.model.video_tower.state_dict())
    model.model.multi_modal_projector.load_state_dict(old.model.multi_modal_projector.state_dict(), strict=False)
    told = model.model.language_model.load_state_dict(
        {name: weight for name, weight in old.model.language_model.state_dict().items()
         if 'embed_tokens' not in name and not (name.startswith('layers.') and int(name.split('.')[1]) >= layers)},
        strict=False)
    assert not told.unexpected_keys, told
    words = t.PreTrainedTokenizerFast.from_pretrained(builtin_path('verifier'))
    with torch.no_grad():
        for name, weight in model.model.language_model.named_parameters():
            if name.endswith('bias'):
                weight.zero_()
        table, before = model.get_input_embeddings().weight, old.get_input_embeddings().weight
        for token in range(len(tokenizer)):
            known = words(tokenizer.decode([token]), add_special_tokens=False)['input_ids']
            if known:
                table[token] = before[known].mean(0)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 1, 3
    return model


def _processor(tokenizer):
    import transformers as t
    shape = Shape(image=_SIZE)
    settings = pixels(shape) | dict(image_mean=[0.5] * 3, image_std=[0.5] * 3)
    image = t.LlavaOnevisionImageProcessor(**settings, image_grid_pinpoints=[[_SIZE, _SIZE]])
    return t.LlavaOnevisionProcessor(image, tokenizer, t.LlavaOnevisionVideoProcessor(**settings), num_image_tokens=64,
                                     vision_feature_select_strategy='default', chat_template=LLAVA_CHAT)


@torch.inference_mode()
def _seen(model, clips: int) -> tuple[torch.Tensor, list[str]]:
    """Rows (clips, S, D) of the video of each clip as the decoder takes them, and its log entry."""
    rows, texts = [], []
    while len(texts) < clips:
        world = World(FIRST_SEED + len(texts) // 24, pace='brisk')
        for second in range(2, 26):
            frames = [world.frame(second - 1 + (slot + 1) / 8) for slot in range(8)]
            small = np.stack([np.asarray(Image.fromarray(frame).resize((_SIZE, _SIZE), Image.Resampling.BICUBIC))
                              for frame in frames])
            values = torch.from_numpy(small).movedim(-1, -3).float().div(127.5).sub(1.0)[None]
            rows.append(model.model.get_video_features(pixel_values_videos=values).pooler_output[0].half())
            texts.append(log_entry(world.slots(float(second))))
    return torch.stack(rows), texts


def make_second_verifier(folder: Path, clips: int = 1200, steps: int = 400, batch: int = 8, layers: int = 6,
                         minutes: float = 30.0) -> Path:
    """Derive, train and save it; ends training early after ``minutes``."""
    load_vision_ops()
    start_s = time.monotonic()
    tokenizer = _tokenizer()
    model = _derived(tokenizer, layers)
    rows, texts = _seen(model, clips)
    rows = rows.clone()
    print(f'{len(texts)} clips after {time.monotonic() - start_s:.0f} s', flush=True)
    prompt = tokenizer.apply_chat_template([{'role': 'user', 'content': [
        {'type': 'video'}, {'type': 'text', 'text': QUESTION}]}], add_generation_prompt=True, tokenize=False)
    before, after = (tokenizer(part, add_special_tokens=False)['input_ids'] for part in prompt.split('<video>'))
    answers = [tokenizer(f' {text}', add_special_tokens=False)['input_ids'] + [1] for text in texts]
    decoder = model.model.language_model.train()
    trained = [weight for weight in decoder.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.02)
    generator = np.random.default_rng(1)
    for step in range(steps):
        done = step / steps
        optimizer.param_groups[0]['lr'] = 1e-3 * min(1.0, (step + 1) / 20) * (1 - 0.95 * done)
        chosen = generator.choice(len(texts), batch, replace=False)
        longest = max(len(answers[row]) for row in chosen)
        words = torch.full((batch, longest), 3)
        for place, row in enumerate(chosen):
            words[place, :len(answers[row])] = torch.tensor(answers[row])
        embed = decoder.embed_tokens
        inputs = torch.cat((embed(torch.tensor(before)).expand(batch, -1, -1), rows[chosen].float(),
                            embed(torch.tensor(after)).expand(batch, -1, -1), embed(words[:, :-1])), 1)
        states = decoder(inputs_embeds=inputs, use_cache=False).last_hidden_state[:, -longest:]
        loss = F.cross_entropy(F.linear(states, embed.weight).flatten(0, 1), words.flatten(), ignore_index=3)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if step % 20 == 0:
            print(f'step {step} of {steps}: loss {float(loss.detach()):.3f}, {time.monotonic() - start_s:.0f} s',
                  flush=True)
        if time.monotonic() - start_s > 60 * minutes:
            break
    model.eval().save_pretrained(folder)
    _processor(tokenizer).save_pretrained(folder)
    return folder


if __name__ == '__main__':
    make_second_verifier(Path(sys.argv[1]), *map(int, sys.argv[2:]))
