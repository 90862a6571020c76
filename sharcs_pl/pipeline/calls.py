"""Calls from Python: arguments as overrides of a command, and the command's messages in the words of the call."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sharcs_pl.config.errors import explain, is_user_error
from sharcs_pl.config.overrides import override, quote_texts
from sharcs_pl.core.errors import Diverged, Interrupted
from sharcs_pl.data.columns import Request
from sharcs_pl.data.frames import Frame, frame_of

if TYPE_CHECKING:
    from sharcs_pl.data.frames import Rows

_WORDS = {"true": "True", "false": "False", "null": "None"}


@dataclass
class Call:
    """The arguments of a call. `names`: the arguments by the keys that they stand for; `phrases`: what else a message
    may advise, and what that is here. `given` holds the values and `frames` the rows in memory, by their keys; `paths`
    are the files of the rows."""

    schema: type
    names: dict[str, str]
    phrases: Mapping[str, str] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)
    frames: dict[str, Frame] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)

    def take(self, arguments: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        """Add arguments by their names, and options by their keys. Raise ``ValueError`` for a key given twice."""
        keys = {name: key for key, name in self.names.items()}
        for name, value in arguments.items():
            if value is not None:
                self._take(keys.get(name, name), value)
        for key, value in options.items():
            self._take(key, value)

    def _take(self, key: str, value: Any) -> None:
        self.check_once(key, "by its key")
        self.given[key] = value

    def check_once(self, key: str, how: str) -> None:
        """Raise ``ValueError`` if the call has a value of a key that it gives again, ``how``."""
        if key in self.given or key in self.frames:
            raise ValueError(f"{self.names.get(key, key)} is given twice, once {how}; give one of them")

    def take_rows(
        self,
        key: str,
        rows: Rows | str | os.PathLike[str] | float | None,
        columns: Callable[[], tuple[Sequence[str], Sequence[str]]],
    ) -> None:
        """Add a path, a share, or rows in memory, whose ``columns`` are those of the texts and of the labels. Those
        of the labels may be missing in ``task.test``."""
        if isinstance(rows, os.PathLike | str):
            self._take(key, os.path.expanduser(rows))
        elif isinstance(rows, int | float):
            self._take(key, rows)
        elif rows is not None:
            self.check_once(key, "by its key")
            for wanted in ("task.text", "task.label"):
                if self.given.get(wanted) is None and wanted in self.names:
                    raise ValueError(f"{wanted} is missing; name the column of the rows, such as {wanted}='review'")
            texts, labels = map(tuple, columns())
            request = Request(texts, labels) if key == "task.test" else Request((*texts, *labels))
            self.frames[key] = frame_of(self.names[key], rows, request, labels[0] if len(labels) == 1 else None)

    def write(self) -> None:
        """Write the rows as the files that the overrides name."""
        for key, frame in self.frames.items():
            frame.write(self.paths[key].parent)

    def overrides(self, folder: Path, more: Sequence[str] = ()) -> list[str]:
        """Return the overrides of the call, with the rows as files of ``folder``."""
        self.paths = {key: folder / frame.file for key, frame in self.frames.items()}
        words = [override(key, value) for key, value in {**self.given, **self.paths}.items()]
        return [*words, *quote_texts(more, self.schema)]

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Raise a mistake as a ``ValueError`` of one line in the words of the call. A signal becomes a
        ``KeyboardInterrupt``, or the end of the process that it asked for."""
        try:
            yield
        except Interrupted as stopped:
            if stopped.signal == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise SystemExit(stopped.code) from None
        except Exception as error:
            if not (is_user_error(error) or isinstance(error, Diverged)):
                raise
            kind = Diverged if isinstance(error, Diverged) else ValueError
            raise kind(self.spelled(explain(error, self.schema))) from error

    def spelled(self, message: str) -> str:
        """Return a message about Hydra's keys in the words of the call."""
        for key, path in self.paths.items():
            for place in (f"{key}={path}", str(path), path.name):
                message = message.replace(place, self.frames[key].name)
        for phrase, here in self.phrases.items():
            message = message.replace(phrase, here)
        for key, value in self.given.items():
            if isinstance(value, str | os.PathLike):
                message = message.replace(f"{key}={value}", f"{self.names.get(key, key)}={str(value)!r}")
        for key, name in self.names.items():
            message = re.sub(rf"(?<![\w.]){re.escape(key)}(?![\w.]*\w)", name, message)
        return re.sub(r"(?<=\w)=(true|false|null)\b", lambda found: f"={_WORDS[found[1]]}", message)
