"""Heads on a verifier's states: EAGLE-1, EAGLE-3, Medusa and a block drafter, their folders and how they are bound."""
from crossspec_ros.models.heads.config import KINDS, HeadConfig
from crossspec_ros.models.heads.folder import load_head, load_heads, save_head
from crossspec_ros.models.heads.making import bound_head, new_head
from crossspec_ros.models.heads.network import StateHead

__all__ = ['KINDS', 'HeadConfig', 'StateHead', 'bound_head', 'load_head', 'load_heads', 'new_head', 'save_head']
