"""Families with an adapter of their own."""
from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .parts import Family, Parts, Shape, chat, text, vision

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast as Tokenizer, ProcessorMixin

LLAVA = {'image_token': '<image>', 'video_token': '<video>'}
QWEN = {'image_token': '<|image_pad|>', 'video_token': '<|video_pad|>', 'vision_bos_token': '<|vision_start|>',
        'vision_eos_token': '<|vision_end|>', '_turn': '<|im_start|>', '_end': '<|im_end|>'}
QWEN_CHAT = chat('<|vision_start|><|image_pad|><|vision_end|>', '<|vision_start|><|video_pad|><|vision_end|>',
                 '<|im_start|>user\n', '<|im_end|>\n', '<|im_start|>assistant\n')
LLAVA_CHAT = chat('<image>\n', '<video>\n', '<s>USER: ', ' ', 'ASSISTANT:')


def llama(shape: Shape) -> dict:
    """A Llama decoder's config, or Mistral's where windows are asked for."""
    return text(shape, 'mistral', model_type='llama' if shape.sliding_window is None else 'mistral')


def pixels(shape: Shape) -> dict:
    """Settings of a processor that resizes to a square."""
    return dict(size={'height': shape.image, 'width': shape.image}, do_resize=True)


def cropped(shape: Shape) -> dict:
    """Settings of a processor that resizes the short side and crops."""
    return dict(size={'shortest_edge': shape.image}, crop_size={'height': shape.image, 'width': shape.image},
                do_center_crop=True)


def ids(tokenizer: Tokenizer, **tokens: str) -> dict[str, int]:
    """Ids of tokens by the name under which a config holds them."""
    return {key: tokenizer.convert_tokens_to_ids(token) for key, token in tokens.items()}


def video_llava(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    patches = (shape.image // shape.patch) ** 2
    config = t.VideoLlavaConfig(
        vision_config=vision(shape, model_type='clip_vision_model'), text_config=llama(shape),
        image_seq_length=patches, video_seq_length=patches + 1, tie_word_embeddings=shape.tie,
        **ids(tokenizer, image_token_index='<image>', video_token_index='<video>'))
    from transformers.models.video_llava.video_processing_video_llava import VideoLlavaVideoProcessor
    return Parts(config, t.VideoLlavaProcessor(t.VideoLlavaImageProcessor(**cropped(shape)),
                                               VideoLlavaVideoProcessor(**cropped(shape)), tokenizer,
                                               patch_size=shape.patch, vision_feature_select_strategy='default'))


def llava_onevision(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    patches = (shape.image // shape.patch) ** 2
    config = t.LlavaOnevisionConfig(
        vision_config=vision(shape, model_type='siglip_vision_model', vision_use_head=False),
        text_config=text(shape, 'qwen2', model_type='qwen2'), vision_feature_select_strategy='full',
        vision_feature_layer=-1, image_grid_pinpoints=[[shape.image, shape.image]], tie_word_embeddings=shape.tie,
        **ids(tokenizer, image_token_index='<image>', video_token_index='<video>'))
    image = t.LlavaOnevisionImageProcessor(**pixels(shape), image_grid_pinpoints=[[shape.image, shape.image]])
    return Parts(config, t.LlavaOnevisionProcessor(image, tokenizer, t.LlavaOnevisionVideoProcessor(**pixels(shape)),
                                                   num_image_tokens=patches, vision_feature_select_strategy='full'))


def llava_next_video(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    config = t.LlavaNextVideoConfig(
        vision_config=vision(shape, model_type='clip_vision_model'), text_config=llama(shape),
        image_grid_pinpoints=[[shape.image, shape.image]], tie_word_embeddings=shape.tie,
        **ids(tokenizer, image_token_index='<image>', video_token_index='<video>'))
    image = t.LlavaNextImageProcessor(**cropped(shape), image_grid_pinpoints=[[shape.image, shape.image]])
    return Parts(config, t.LlavaNextVideoProcessor(
        t.LlavaNextVideoVideoProcessor(**cropped(shape)), image, tokenizer, patch_size=shape.patch,
        vision_feature_select_strategy='default', num_additional_image_tokens=1))


def qwen_processor(cls: type, video_cls: type, shape: Shape, tokenizer: Tokenizer, least: int = 4) -> ProcessorMixin:
    """A processor of Qwen's kind: patches merged two by two, frames in pairs.

    ``least`` tokens a frame, or a clip where the class counts pixels of the whole clip.
    """
    import transformers as t
    size = dict(shortest_edge=least * (2 * shape.patch) ** 2, longest_edge=8 * least * (2 * shape.patch) ** 2)
    settings = dict(patch_size=shape.patch, merge_size=2, size=size)
    return cls(t.Qwen2VLImageProcessor(temporal_patch_size=2, **settings), tokenizer,
               video_cls(cap_pixels_per_frame=False, temporal_patch_size=2, **settings))


def qwen_ids(tokenizer: Tokenizer) -> dict[str, int]:
    """Ids of Qwen's marks around frames."""
    return ids(tokenizer, image_token_id='<|image_pad|>', video_token_id='<|video_pad|>',
               vision_start_token_id='<|vision_start|>', vision_end_token_id='<|vision_end|>')


def qwen2_vl(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    config = t.Qwen2VLConfig(
        text_config=text(shape, 'qwen2', mrope=True),
        vision_config=dict(depth=shape.vision_layers, embed_dim=shape.vision_hidden, hidden_size=shape.hidden,
                           num_heads=2, mlp_ratio=2, patch_size=shape.patch),
        tie_word_embeddings=shape.tie, **qwen_ids(tokenizer))
    return Parts(config, qwen_processor(t.Qwen2VLProcessor, t.Qwen2VLVideoProcessor, shape, tokenizer))


def qwen2_5_vl(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    config = t.Qwen2_5_VLConfig(
        text_config=text(shape, 'qwen2', mrope=True),
        vision_config=dict(depth=shape.vision_layers, hidden_size=shape.vision_hidden, out_hidden_size=shape.hidden,
                           num_heads=2, intermediate_size=2 * shape.vision_hidden, patch_size=shape.patch,
                           window_size=4 * shape.patch, fullatt_block_indexes=[shape.vision_layers - 1],
                           tokens_per_second=8),
        tie_word_embeddings=shape.tie, **qwen_ids(tokenizer))
    return Parts(config, qwen_processor(t.Qwen2_5_VLProcessor, t.Qwen2VLVideoProcessor, shape, tokenizer))


def qwen3_vl(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    config = t.Qwen3VLConfig(
        text_config=text(shape, mrope=True),
        vision_config=dict(depth=shape.vision_layers, hidden_size=shape.vision_hidden, out_hidden_size=shape.hidden,
                           num_heads=2, intermediate_size=2 * shape.vision_hidden, patch_size=shape.patch,
                           num_position_embeddings=16, deepstack_visual_indexes=list(range(shape.vision_layers))),
        tie_word_embeddings=shape.tie, **qwen_ids(tokenizer))
    return Parts(config, qwen_processor(t.Qwen3VLProcessor, t.Qwen3VLVideoProcessor, shape, tokenizer, 24))


def cosmos3_edge(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    config = t.Cosmos3EdgeConfig(
        text_config=text(shape, mrope=True),
        vision_config=dict(hidden_size=shape.vision_hidden, intermediate_size=2 * shape.vision_hidden,
                           num_hidden_layers=shape.vision_layers, num_attention_heads=2, patch_size=shape.patch,
                           num_patches=16),
        projector_hidden_size=32, tie_word_embeddings=shape.tie, **qwen_ids(tokenizer))
    size = dict(shortest_edge=24 * (2 * shape.patch) ** 2, longest_edge=192 * (2 * shape.patch) ** 2)
    settings = dict(patch_size=shape.patch, merge_size=2, size=size)
    return Parts(config, t.Cosmos3EdgeProcessor(t.Cosmos3EdgeImageProcessor(**settings), tokenizer,
                                                t.Cosmos3EdgeVideoProcessor(**settings)))


INTERN = {'start_image_token': '<img>', 'end_image_token': '</img>', 'context_image_token': '<IMG_CONTEXT>',
          'video_token': '<video>', '_turn': '<|im_start|>', '_end': '<|im_end|>'}
SMOL = {'_turn': '<|im_start|>', 'image_token': '<image>', 'fake_image_token': '<fake_token_around_image>',
        'global_image_token': '<global-img>', 'end_of_utterance_token': '<end_of_utterance>',
        'video_token': '<video>'}
GEMMA = {'boi_token': '<start_of_image>', 'eoi_token': '<end_of_image>', 'image_token': '<image_soft_token>',
         '_turn': '<start_of_turn>', '_end': '<end_of_turn>'}
GEMMA4 = {'boi_token': '<|image>', 'eoi_token': '<image|>', 'image_token': '<|image|>', 'boa_token': '<|audio>',
          'eoa_token': '<audio|>', 'audio_token': '<|audio|>', '_video': '<|video|>', '_turn': '<|turn>',
          '_end': '<turn|>'}


INTERN_CHAT = chat('<IMG_CONTEXT>\n', '<video>\n', '<|im_start|>user\n', '<|im_end|>\n', '<|im_start|>assistant\n')
SMOL_CHAT = chat('<image>', '<video>', '<|im_start|>User: ', '<end_of_utterance>\n', 'Assistant:')
GEMMA_CHAT = chat('<start_of_image>', '', '<s><start_of_turn>user\n', '<end_of_turn>\n', '<start_of_turn>model\n')
GEMMA4_CHAT = chat('<|image|>', '<|video|>', '<s><|turn>user\n', '<turn|>\n', '<|turn>model\n')


def internvl(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    tokens = (shape.image // shape.patch // 2) ** 2
    config = t.InternVLConfig(
        vision_config=vision(shape), text_config=text(shape, 'qwen2', model_type='qwen2'), image_seq_length=tokens,
        tie_word_embeddings=shape.tie, **ids(tokenizer, image_token_id='<IMG_CONTEXT>'))
    return Parts(config, t.InternVLProcessor(t.GotOcr2ImageProcessor(**pixels(shape)), tokenizer,
                                             t.InternVLVideoProcessor(**pixels(shape)), image_seq_length=tokens))


def smolvlm(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    tokens = (shape.image // shape.patch // 2) ** 2
    config = t.SmolVLMConfig(vision_config=vision(shape), text_config=llama(shape), scale_factor=2,
                             tie_word_embeddings=shape.tie, pad_token_id=3, **ids(tokenizer, image_token_id='<image>'))
    edge = dict(size={'longest_edge': shape.image}, max_image_size={'longest_edge': shape.image})
    return Parts(config, t.SmolVLMProcessor(t.SmolVLMImageProcessor(**edge), tokenizer, t.SmolVLMVideoProcessor(**edge),
                                            image_seq_len=tokens))


def _two_ropes(shape: Shape, full: dict | None = None) -> dict:
    return {'sliding_attention': {'rope_type': 'default', 'rope_theta': 1000.0},
            'full_attention': {'rope_type': 'default', 'rope_theta': 10000.0, **(full or {}),
                               **(shape.rope_scaling or {})}}


def alternate(shape: Shape) -> list[str]:
    """Kinds of layers: two sliding ones, a full one, and a full one last."""
    return ['full_attention' if i == shape.layers - 1 or i % 3 == 2 else 'sliding_attention'
            for i in range(shape.layers)]


def gemma3(shape: Shape, tokenizer: Tokenizer) -> Parts:
    import transformers as t
    tokens = (shape.image // shape.patch // 2) ** 2
    config = t.Gemma3Config(
        vision_config=vision(shape, model_type='siglip_vision_model', vision_use_head=False),
        text_config=text(shape, 'gemma', rope_parameters=_two_ropes(shape), layer_types=alternate(shape),
                         query_pre_attn_scalar=shape.head_dim),
        mm_tokens_per_image=tokens, tie_word_embeddings=shape.tie,
        **ids(tokenizer, image_token_index='<image_soft_token>', boi_token_index='<start_of_image>',
              eoi_token_index='<end_of_image>'))
    return Parts(config, t.Gemma3Processor(t.Gemma3ImageProcessor(**pixels(shape)), tokenizer,
                                           image_seq_length=tokens))


def gemma4(shape: Shape, tokenizer: Tokenizer, inside: str | None = 'vision', per_layer: int = 0,
           shared: int = 0) -> Parts:
    import transformers as t
    proportional = {'rope_type': 'proportional', 'partial_rotary_factor': 0.25}
    config = t.Gemma4Config(
        vision_config=dict(hidden_size=shape.vision_hidden, intermediate_size=2 * shape.vision_hidden,
                           num_hidden_layers=shape.vision_layers, num_attention_heads=2, num_key_value_heads=2,
                           head_dim=shape.vision_hidden // 2, patch_size=4, position_embedding_size=64),
        text_config=text(shape, 'gemma', rope_parameters=_two_ropes(shape, proportional),
                         layer_types=alternate(shape), global_head_dim=2 * shape.head_dim,
                         hidden_size_per_layer_input=per_layer, vocab_size_per_layer_input=shape.vocab_size,
                         num_kv_shared_layers=shared, use_bidirectional_attention=inside),
        audio_config=None, tie_word_embeddings=shape.tie,
        **ids(tokenizer, image_token_id='<|image|>', video_token_id='<|video|>', audio_token_id='<|audio|>',
              boi_token_id='<|image>', eoi_token_id='<image|>', boa_token_id='<|audio>', eoa_token_id='<audio|>'))
    settings = dict(patch_size=4, pooling_kernel_size=3, max_soft_tokens=70)
    return Parts(config, t.Gemma4Processor(t.Gemma4AudioFeatureExtractor(), t.Gemma4ImageProcessor(**settings),
                                           tokenizer, t.Gemma4VideoProcessor(**settings)))


def gemma4_small(shape: Shape, tokenizer: Tokenizer) -> Parts:
    """As E2B and E4B: inputs a layer from token ids, and keys and values shared between layers."""
    return gemma4(shape, tokenizer, inside=None, per_layer=8, shared=2)


named = partial(Family, named=True)
NAMED = (
    named('video_llava', video_llava, LLAVA, LLAVA_CHAT, 1, True,
          'One run of rows, frame by frame, patches + 1 (class token) each, nothing between; 1-D positions.'),
    named('llava_onevision', llava_onevision, LLAVA, LLAVA_CHAT, 1, True,
          "One run, pooled patches a frame, then one learned newline row that has the video placeholder's id "
          'and depends on no frame; 1-D positions; sliding layers where Qwen2 is told to.',
          defaults=dict(image=56)),
    named('llava_next_video', llava_next_video, LLAVA, LLAVA_CHAT, 1, True,
          'One run, pooled patches a frame, nothing between nor after; 1-D positions.',
          defaults=dict(image=56)),
    named('qwen2_vl', qwen2_vl, QWEN, QWEN_CHAT, 2, True,
          'One run, a pair of frames in place of a frame (an odd last one is doubled), nothing between; positions '
          '(4, 1, L), text first, '
          'then time, height, width; time steps by one a pair; the answer goes on after the largest position.',
          defaults=dict(vision_hidden=32)),
    named('qwen2_5_vl', qwen2_5_vl, QWEN, QWEN_CHAT, 2, True,
          'As Qwen2-VL, but time steps by `second_per_grid_ts` times `tokens_per_second`; windows inside the '
          'tower never cross a pair.', defaults=dict(vision_hidden=32)),
    named('qwen3_vl', qwen3_vl, QWEN, QWEN_CHAT, 2, True,
          '"<0.1 seconds>" and vision marks as text around each pair; positions (4, 1, L), time 1 a pair; '
          '`deepstack_visual_embeds` are added to visual rows (`visual_pos_masks`) after the first layers; '
          'the size after resizing depends on the number of frames.', defaults=dict(vision_hidden=32)),
    named('cosmos3_edge', cosmos3_edge, QWEN, QWEN_CHAT, 1, True,
          '"<0.1 seconds>" and vision marks around each frame; positions (3, 1, L); its processor must be '
          'told `return_mm_token_type_ids=True` and `videos_kwargs.return_metadata=True`; the size after '
          'resizing depends on the number of frames.', defaults=dict(vision_hidden=32)),
    named('internvl', internvl, INTERN, INTERN_CHAT, 1, True,
          '"Frame1: <img>" before each frame and "</img>" and a newline after; `pixel_values`, as for images; '
          '1-D positions.', defaults=dict(image=56)),
    named('smolvlm', smolvlm, SMOL, SMOL_CHAT, 1, True,
          'Number of frames and duration stand in the words before the first frame, "Frame from 00:00:" '
          'before each; frames whose pixels are all zero once processed (black ones where `do_normalize` is '
          'off) are dropped, and `generate` fails; 1-D positions; the processor needs num2words.',
          defaults=dict(image=56)),
    named('gemma3', gemma3, GEMMA, GEMMA_CHAT, 1, False,
          'Frames are images between marks and newlines; rows of one frame attend both ways to each other in '
          'full and sliding layers (there also beyond the window); 1-D positions, two thetas; rows of words '
          'are scaled.',
          defaults=dict(image=56, layers=3, sliding_window=24, tie=True, spread=4.0)),
    named('gemma4', gemma4, GEMMA4, GEMMA4_CHAT, 1, True,
          '"00:00 " and marks before each frame; rows of one frame attend both ways in sliding layers only '
          '(`use_bidirectional_attention`), full layers are causal; heads of full layers are wider.',
          defaults=dict(layers=3, sliding_window=48, tie=True, spread=4.0)),
    named('gemma4_small', gemma4_small, GEMMA4, GEMMA4_CHAT, 1, True,
          'As E2B and E4B: `per_layer_inputs` (1, L, layers, width) from token ids come with every row, the '
          'last layers share keys and values of earlier ones (fewer layers in the cache); causal in all '
          'layers.',
          defaults=dict(layers=6, sliding_window=48, tie=True, spread=4.0)),
)
