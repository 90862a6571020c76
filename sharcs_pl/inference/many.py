"""The files of a prediction of many: the inputs, the output of each, and the part of them that is to be done."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob
from itertools import takewhile
from pathlib import Path

from sharcs_pl.config.predict import PIPE
from sharcs_pl.data.files import READERS, format_of
from sharcs_pl.inference.journal import journal_path
from sharcs_pl.inference.rows import LINES, check_input
from sharcs_pl.inference.writers import WRITERS, check_output_suffix, rejected_path

_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class InputFile:
    """An input, its name below the folder that all inputs have in common, and its output."""

    path: Path
    name: str
    output: Path


def is_many(value: str | Sequence[str]) -> bool:
    """Return True if ``input=`` asks for many files: a list, a folder, or a glob that is no file's own name."""
    if not isinstance(value, str):
        return True
    path = Path(value).expanduser()
    return os.path.isdir(path) or (_MAGIC.search(value) is not None and not os.path.exists(path))


def find_files(value: str | Sequence[str], output: str, output_format: str | None) -> list[InputFile]:
    """Return the files of ``input=`` in the order of their names, with their outputs below the folder ``output=``.
    Raise `ValueError` where there are none, and for outputs that cannot be or would replace a file of another."""
    folder = check_output_folder(output)
    if output_format is not None:
        if "/" in output_format or os.sep in output_format:
            raise ValueError(f"output_format={output_format} is no ending of a file; give one such as jsonl.gz")
        output_format = output_format.removeprefix(".")
        check_output_suffix(f"output_format={output_format}", Path(f"answers.{output_format}"))
    found = [_entry(each, folder) for each in ([value] if isinstance(value, str) else value)]
    root = Path(os.path.commonpath([os.path.abspath(start) for start, _ in found]))
    if os.path.realpath(root) == os.path.realpath(folder):
        raise ValueError(f"output={output} is the folder of the inputs; give another folder")
    paths: dict[str, Path] = {}  # each file once, whatever links lead to it; the shortest name is its own
    for path in sorted((path for _, entry in found for path in entry), key=lambda path: (len(path.parts), str(path))):
        paths.setdefault(os.path.realpath(path), path)
    files = []
    for path in paths.values():
        name = Path(os.path.abspath(path)).relative_to(root)
        files.append(InputFile(path, name.as_posix(), folder / name.with_name(_output_name(name, output_format))))
    files.sort(key=lambda file: file.name)
    _check_apart(output, files)
    return files


def dealt(files: Sequence[InputFile], part: tuple[int, int]) -> list[InputFile]:
    """Return the part ``(i, n)`` of the files: the i-th of them, and every n-th after it."""
    number, parts = part
    return list(files[number - 1 :: parts])


def check_output_folder(output: str) -> Path:
    """Return the folder that ``output=`` names, which may not be there yet. Raise `ValueError` unless it can be."""
    folder = Path(output).expanduser()
    if output == PIPE:
        raise ValueError("output=- is for one input; give a folder for the outputs of many: output=answers/")
    if not os.path.isdir(folder):
        named = format_of(folder)[0] in WRITERS
        if named or os.path.exists(folder):
            raise ValueError(f"output={output} is a file; give a folder for the outputs of many: output=answers/")
    there = next(above for above in (folder, *folder.absolute().parents) if os.path.exists(above))
    if not os.path.isdir(there):
        raise ValueError(f"output={output}: {there.absolute()} is a file; give a folder")
    if not os.access(there, os.W_OK):
        raise ValueError(f"output={output}: {there.absolute()} may not be written to")
    return folder


def _entry(value: str, output: Path) -> tuple[Path, list[Path]]:
    """Return the files of one path of ``input=``, and the folder from which their names count."""
    path = Path(value).expanduser()
    if not is_many(value):
        return path.parent, [check_input(value)]
    if os.path.isdir(path):
        root, pattern = path, "**/*"
    else:
        root = Path(*takewhile(lambda part: not _MAGIC.search(part), path.parts))
        pattern = str(path.relative_to(root))
    found = [root / name for name in glob(pattern, root_dir=root, recursive=True)]
    inside = _is_below(output, root)  # what it holds are outputs
    files = [each for each in found if os.path.isfile(each) and not (inside and _is_below(each, output))]
    if os.path.isdir(path):
        files = [each for each in files if format_of(each)[0] in (*READERS, LINES)]
    if not files:
        what = f"the folder holds no file that ends in {', '.join((*READERS, LINES))}"
        raise ValueError(f"input={value}: {what if os.path.isdir(path) else 'no file matches'}")
    return root, [check_input(str(each)) for each in files]


def _is_below(path: Path, folder: Path) -> bool:
    return Path(os.path.abspath(folder)) in Path(os.path.abspath(path)).parents


def _output_name(name: Path, output_format: str | None) -> str:
    suffix, packed = format_of(name)
    if output_format is None and suffix in WRITERS:
        return name.name
    stem = name.stem if packed is None else Path(name.stem).stem
    return f"{stem}.{output_format}" if output_format else f"{stem}.jsonl{packed or ''}"


def _check_apart(output: str, files: Sequence[InputFile]) -> None:
    inputs = {os.path.realpath(file.path) for file in files}
    owner: dict[str, InputFile] = {}
    for file in files:
        for path in (file.output, journal_path(file.output), rejected_path(file.output)):
            real = os.path.realpath(path)
            if real in inputs:
                raise ValueError(
                    f"output={output}: {path}, of {file.name}, would replace an input; give another folder"
                )
            other = owner.setdefault(real, file)
            if other is not file:
                both = f"{other.name} and {file.name} would both write {path}"
                raise ValueError(f"output={output}: {both}; predict them into different folders")
