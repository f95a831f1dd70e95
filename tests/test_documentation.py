"""README.md and docs/: links lead somewhere, and each command is one that its front door takes."""

import re
import shlex

import pytest
from front_doors import REPOSITORY
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from src.config import CONF_DIR, quoted, register_resolvers
from src.schema.check import check_values

PAGES = [*REPOSITORY.glob("*.md"), *sorted(REPOSITORY.glob("docs/*.md"))]
TEXTS = {page.relative_to(REPOSITORY).as_posix(): page.read_text() for page in PAGES}


def _commands(text):
    for block in re.findall(r"^```\n(.*?)^```", text, re.S | re.M):
        for line in block.replace("\\\n", " ").splitlines():
            if "python -m src." in line or "-m src.train" in line:
                words = shlex.split(line, comments=True)
                module = next(word for word in words if word.startswith("src."))
                yield module.removeprefix("src."), words[words.index(module) + 1 :]


COMMANDS = [
    pytest.param(task, words, id=f"{page}: {task} {' '.join(words)}"[:100])
    for page, text in TEXTS.items()
    for task, words in _commands(text)
    if "--config-dir=my_conf" not in words and not any(word.startswith("--c") for word in words)
]


def _anchor(heading):
    """GitHub's, of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_to_files_and_headings(page):
    for target in re.findall(r"\]\((?!https?:)([^)]*)\)", TEXTS[page]):
        path, _, anchor = target.partition("#")
        file = (REPOSITORY / page).parent / path if path else REPOSITORY / page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", file.read_text(), flags=re.S), re.M)
            assert anchor in map(_anchor, headings), target


def test_the_readme_links_to_each_page():
    assert all(f"(docs/{page.name})" in TEXTS["README.md"] for page in PAGES if page.parent.name == "docs")


@pytest.mark.parametrize(("task", "words"), COMMANDS)
def test_a_command_is_taken(task, words):
    """Its keys exist, and their values have the types and ranges of these keys."""
    register_resolvers()
    plain = []
    for word in words:
        if word == "-m":
            continue
        key, _, value = word.partition("=")
        if key in ("source", "checkpoint", "data.root"):
            word = f"{key}={quoted(value.partition(',')[0])}"
        (override,) = OverridesParser.create().parse_overrides([word])
        if override.is_sweep_override():
            if not override.is_discrete_sweep():
                continue
            word = f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"
        plain.append(word)
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose(task, plain if any(w.startswith("name=") for w in plain) else [*plain, "name=x"])
    check_values(config, task)
