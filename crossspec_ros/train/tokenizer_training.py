"""A byte-level BPE tokenizer for the captions of the driving world, saved in the standard files."""
from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from crossspec_ros.models.tokenizer import PROMPT_BEGIN, PROMPT_END
from crossspec_ros.train.lexicon import lexicon

PAD, EOS, UNKNOWN, IMAGE, VIDEO = '<pad>', '</s>', '<unk>', '<image>', '<video>'
SPECIAL_TOKENS = (PAD, EOS, UNKNOWN, IMAGE, VIDEO)


def train_tokenizer(texts: Iterable[str], vocab_size: int = 3072) -> Tokenizer:
    """BPE over bytes: any text can be encoded, and what the captions say takes a token a word.

    Words of ``lexicon``, which prompts may hold, get what room the captions leave in the vocabulary.
    The decoder takes one space off the front, since an answer's first word follows ``ASSISTANT:`` with a space.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(' ', 1, 0)])
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=list(SPECIAL_TOKENS), show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    corpus = [f' {text}' for text in texts]
    corpus += [f'{PROMPT_BEGIN.replace(VIDEO, "")}{PROMPT_END}'] * 2
    for word in lexicon():
        corpus += [f' {word}', f' {word}', f'{word.capitalize()}']
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def as_transformers(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The same tokenizer as ``transformers`` wants it, with its special tokens named."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, unk_token=UNKNOWN, padding_side='left',
        additional_special_tokens=[IMAGE, VIDEO], clean_up_tokenization_spaces=False, model_max_length=2048)


def answer_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of an answer as the verifier says it: a space before the first word, the end token after the last."""
    return [*tokenizer.encode(f' {text}', add_special_tokens=False).ids, tokenizer.token_to_id(EOS)]


def save_processor_files(folder: Path, image_size: int, patch_size: int) -> None:
    """Preprocessor files of a Video-LLaVA checkpoint: stretch to a square, [-1, 1], no cropping.

    Written by hand since building the video processor needs torchvision, which training does not.
    """
    size = {'height': image_size, 'width': image_size}
    pixels = {'do_resize': True, 'size': size, 'resample': 3, 'do_center_crop': False, 'crop_size': size,
              'do_rescale': True, 'rescale_factor': 1 / 255, 'do_normalize': True, 'image_mean': [0.5, 0.5, 0.5],
              'image_std': [0.5, 0.5, 0.5], 'do_convert_rgb': True}
    image = pixels | {'image_processor_type': 'VideoLlavaImageProcessor', 'processor_class': 'VideoLlavaProcessor'}
    video = pixels | {'video_processor_type': 'VideoLlavaVideoProcessor', 'processor_class': 'VideoLlavaProcessor',
                      'default_to_square': True, 'do_sample_frames': False}
    processor = {'processor_class': 'VideoLlavaProcessor', 'patch_size': patch_size, 'num_additional_image_tokens': 1,
                 'vision_feature_select_strategy': 'default', 'image_token': IMAGE, 'video_token': VIDEO}
    for name, values in (('preprocessor_config', image), ('video_preprocessor_config', video),
                         ('processor_config', processor)):
        (folder / f'{name}.json').write_text(json.dumps(values, indent=2) + '\n', encoding='utf-8')
