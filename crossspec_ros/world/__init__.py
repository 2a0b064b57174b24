"""A procedural driving world with an RGB camera, an event sensor and the truth about both."""
from crossspec_ros.world.captions import (AHEAD, CHANGED, DESCRIBE, QUESTIONS, SAFE, SLOTS, answers, caption,
                                                     parse_slots, sample_captions)
from crossspec_ros.world.clip import EVALUATION_SEED, Box, Clip, Truth, World, iter_clips
from crossspec_ros.world.dvs import DvsConfig, EventSensor

__all__ = ['AHEAD', 'CHANGED', 'DESCRIBE', 'EVALUATION_SEED', 'QUESTIONS', 'SAFE', 'SLOTS', 'Box', 'Clip', 'DvsConfig',
           'EventSensor', 'Truth', 'World', 'answers', 'caption', 'iter_clips', 'parse_slots', 'sample_captions']
