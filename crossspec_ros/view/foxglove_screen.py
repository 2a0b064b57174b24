"""The live view for Foxglove and Lichtblick: a websocket with both cameras, the captions, series and a log."""
from __future__ import annotations

import foxglove
from foxglove.channels import CompressedImageChannel, LogChannel
from foxglove.messages import CompressedImage, Log, LogLevel, Timestamp

from crossspec_ros.errors import CrossSpecError
from crossspec_ros.view.addresses import check_port
from crossspec_ros.view.feed import ACCEPTANCE, AGES, DROPS, Look, Words

_BACKLOG = 64                                                   # messages a client may lag; then its oldest go
_LEVELS = {'ok': LogLevel.Info, 'warn': LogLevel.Warning, 'error': LogLevel.Error, 'stale': LogLevel.Warning}
_TEXT = {'type': 'string'}
_CAPTION = {'type': 'object', 'title': 'crossspec.Caption', 'properties': {
    **{name: _TEXT for name in ('question', 'verified', 'drafted', 'note')},
    'corrected': {'type': 'array', 'items': {'type': 'object', 'properties': {
        'clock': _TEXT, 'ages': _TEXT, 'words': {'type': 'array', 'items': {
            'type': 'object', 'properties': {'fate': _TEXT, 'text': _TEXT}}}}}}}}
_VALUE = {'type': 'object', 'title': 'crossspec.Value', 'properties': {
    'name': _TEXT, 'value': {'type': 'number'}}}


def _time(stamp_ns: int) -> Timestamp:
    return Timestamp(stamp_ns // 1_000_000_000, stamp_ns % 1_000_000_000)


def as_message(words: Words) -> dict[str, object]:
    """The texts as the JSON message of ``/caption``."""
    return {'question': words.question, 'verified': words.verified, 'drafted': words.drafted, 'note': words.note,
            'corrected': [{'clock': each.clock, 'ages': each.ages,
                           'words': [{'fate': run.fate.value, 'text': run.text} for run in each.runs]}
                          for each in words.corrected]}


class FoxgloveScreen:
    """A websocket server at ``bind`` and ``port`` (0: a free one), within this process, with a short queue a client.

    Raises:
        CrossSpecError: the port is in use.
    """

    def __init__(self, bind: str, port: int) -> None:
        self.port = check_port(bind, port)
        self._context = context = foxglove.Context()            # the server does not keep it alive
        self._pictures = {name: CompressedImageChannel(f'/{name}', context=context) for name in ('camera', 'events')}
        self._caption = foxglove.Channel('/caption', schema=_CAPTION, context=context)
        self._groups = {name: foxglove.Channel(f'/{name}', schema=_VALUE, context=context)
                        for name in (AGES, ACCEPTANCE, DROPS)}
        self._log = LogChannel('/log', context=context)
        try:
            self._server = foxglove.start_server(name='crossspec', host=bind, port=self.port, context=context,
                                                 message_backlog_size=_BACKLOG)
        except (RuntimeError, OSError) as error:
            raise CrossSpecError(f'foxglove_port must be one that is free at {bind}, got {port}: {error}') from error

    def show(self, look: Look) -> bool:
        """Send a look to who listens."""
        for name, jpeg in look.pictures.items():
            self._pictures[name].log(CompressedImage(timestamp=_time(look.stamp_ns), frame_id=name, data=jpeg,
                                                     format='jpeg'), log_time=look.stamp_ns)
        if look.words is not None:
            self._caption.log(as_message(look.words), log_time=look.stamp_ns)
            if look.words.verified and not look.words.drafted:
                self._say('caption', look.words.verified, 'ok', look.stamp_ns)
        for value in look.values:
            self._groups[value.group].log({'name': value.name, 'value': value.value}, log_time=value.stamp_ns)
        for line in look.lines:
            self._say(line.source, line.text, line.level, line.stamp_ns)
        return True

    def _say(self, source: str, text: str, level: str, stamp_ns: int) -> None:
        self._log.log(Log(timestamp=_time(stamp_ns), level=_LEVELS[level], message=text, name=source),
                      log_time=stamp_ns)

    def close(self) -> None:
        """Send everybody away."""
        self._server.stop()
