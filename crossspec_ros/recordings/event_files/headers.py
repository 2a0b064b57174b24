"""What a file is, by what it holds and not by its name; and the text with which RAW and DAT files begin."""
from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from crossspec_ros.errors import CrossSpecError

_LONGEST = 1 << 16
_MAGIC = ((b'\x89MCAP0\r\n', 'bag'), (b'SQLite format 3\0', 'bag'), (b'#!AER-DAT4', 'aedat4'),
          (b'\x89HDF\r\n\x1a\n', 'hdf5'), (b'% ', 'percent'), (b'#ROSBAG V2.0', 'bag'), (b'#!AER-DAT', 'aedat_old'),
          (b'version https://git-lfs', 'lfs'))
_EVT = {'3.0': 'evt3', '2.0': 'evt2', '2.1': 'evt21', 'EVT3': 'evt3', 'EVT2': 'evt2', 'EVT21': 'evt21'}
# Sensors by the name or the generation that older headers give instead of a size.
_SIZES = {'gen31': (640, 480), '3.1': (640, 480), '3.0': (640, 480), 'gen3': (640, 480), 'gen41': (1280, 720),
          '4.1': (1280, 720), '4.2': (1280, 720), 'gen4': (1280, 720), '4.0': (1280, 720), 'imx636': (1280, 720),
          'imx646': (1280, 720), 'genx320': (320, 320), '320.0': (320, 320)}
_NOT_READ = {
    'aedat_old': 'is AEDAT of a version before 4; convert it to AEDAT4 with the maker\'s DV software',
    'lfs': 'is a Git LFS pointer, not the recording; run "git lfs pull" where it came from'}


@dataclass(frozen=True)
class Header:
    """The lines that begin with % in front of the words of a RAW or DAT file.

    ``fields`` are their first words (small) and what follows; ``length`` is where the binary part begins.
    """

    text: str
    fields: dict[str, str]
    length: int

    def size(self, path: Path, given: tuple[int, int] | None) -> tuple[int, int]:
        """(width, height): as given, or as the header says; CrossSpecError where neither tells."""
        if given is not None:
            return given
        if 'geometry' in self.fields and (size := parse_size(self.fields['geometry'])):
            return size
        options = dict(re.findall(r'(\w+)=(\w+)', self.fields.get('format', '')))
        if {'width', 'height'} <= set(options):
            return int(options['width']), int(options['height'])
        if self.fields.get('width', '').isdecimal() and self.fields.get('height', '').isdecimal():
            return int(self.fields['width']), int(self.fields['height'])
        told = ' '.join(self.fields.get(key, '') for key in ('sensor_name', 'sensor_generation', 'plugin_name')).lower()
        for name, size in _SIZES.items():
            if re.search(rf'(?<![\d.a-z]){re.escape(name)}(?![\d.])', told.replace('_', ' ')):
                return size
        raise CrossSpecError(f'{path} does not say how large its sensor is; give it with --size WIDTHxHEIGHT')

    @property
    def encoding(self) -> str | None:
        """evt2, evt21, evt3, another name that the header has, or None."""
        name = self.fields.get('format', '').split(';')[0].strip() or self.fields.get('evt', '').strip()
        return _EVT.get(name, name or None)

    @property
    def swapped(self) -> bool | None:
        """Whether the halves of the 64-bit words of EVT2.1 are the other way round; None where the header does not
        say.
        """
        match = re.search(r'endianness=(\w+)', self.fields.get('format', ''))
        return None if match is None else match[1] == 'legacy'


def parse_size(text: str) -> tuple[int, int] | None:
    """(width, height) of ``640x480``, or None."""
    match = re.fullmatch(r'\s*(\d{1,5})\s*x\s*(\d{1,5})\s*', text)
    return (int(match[1]), int(match[2])) if match else None


def read_header(data: bytes) -> Header:
    """The header that ``data`` begins with (of length 0 where it has none)."""
    at = 0
    fields: dict[str, str] = {}
    while data[at:at + 2] == b'% ' and (stop := data.find(b'\n', at)) >= 0:
        key, _, value = data[at + 2:stop].decode('latin-1').strip().partition(' ')
        at = stop + 1
        if key.lower() == 'end':
            break
        fields[key.lower()] = value.strip()
    return Header(data[:at].decode('latin-1'), fields, at)


def first_bytes(path: Path) -> bytes:
    """The first 64 KiB; CrossSpecError where the file cannot be read."""
    try:
        with open(path, 'rb') as file:
            return file.read(_LONGEST)
    except OSError as error:
        raise CrossSpecError(f'{path} cannot be read: {error.strerror}') from error


def begins_like_events(path: Path) -> bool:
    """Whether a file begins as files of events do, whole or not; what else it may be is for others to say."""
    return first_bytes(path).startswith((b'#!AER-DAT', b'\x89HDF\r\n\x1a\n', b'% '))


def kind_of(path: Path) -> str:
    """'bag', 'evt2', 'evt21', 'evt3', 'dat', 'aedat4' or 'hdf5', by content.

    Raises CrossSpecError that names what the file is instead, and what to do with it.
    """
    if not path.exists():
        raise CrossSpecError(f'{path} does not exist')
    if path.is_dir():
        return 'bag'
    data = first_bytes(path)
    kind = next((kind for magic, kind in _MAGIC if data.startswith(magic)), None)
    if kind in _NOT_READ:
        raise CrossSpecError(f'{path} {_NOT_READ[kind]}')
    if kind == 'percent':
        return _percent(path, data)
    if kind is None:
        what = 'is empty' if not data else f'begins with {data[:8]!r}'
        raise CrossSpecError(f'{path} {what}: no bag and no RAW, DAT, AEDAT4 or HDF5 file; is it whole, is it '
                             'unpacked?')
    return kind


def _percent(path: Path, data: bytes) -> str:
    header = read_header(data)
    if header.encoding in ('evt2', 'evt21', 'evt3'):
        return header.encoding
    if header.encoding is not None:
        raise CrossSpecError(f'{path} holds {header.encoding}, which is not read here (EVT2, EVT2.1 and EVT3 are); '
                             'convert it with the camera maker\'s tools')
    if data[header.length + 1:header.length + 2] == b'\x08':
        return 'dat'
    if 'integrator_name' in header.fields or 'plugin_name' in header.fields or 'subsystem_id' in header.fields:
        return 'evt2'                   # the first cameras of the maker did not name their only format
    raise CrossSpecError(f'{path} begins like a RAW or DAT file but names no format; record it again, or add the line '
                         '"% evt 3.0" (or 2.0, 2.1) to its header')
