"""The front page is short and true: its links resolve, its code runs, its commands are there."""

import pathlib
import re
import shlex
import tomllib

import pytest
import torch
from ranges import ranges

import start
from accum_lib.__main__ import main

ROOT = pathlib.Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\(([^)\s]+)\)")
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE_README = (ROOT / "README.zh.md").read_text(encoding="utf-8")
PLACES = ("*", "docs/*", "notebooks/*", "notebooks/zh/*", "examples/*", "binder/*", ".github/**/*")
PAGES = sorted(path for place in PLACES for path in ROOT.glob(f"{place}.md"))


def anchors(page: pathlib.Path) -> set[str]:
    """As a site that shows the page makes them of its headings."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def dead(text: str, page: pathlib.Path) -> list[str]:
    """The links that lead to no file, or to no heading of it."""
    found = []
    for link in LINK.findall(re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if re.match(r"https?:|mailto:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        inside = target.exists() and target.is_relative_to(ROOT)
        if not inside or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page) -> None:
    assert dead(page.read_text(encoding="utf-8"), page) == []


def test_a_dead_link_would_be_noticed() -> None:
    page = ROOT / "docs" / "results.md"
    text = "[a](nowhere.md) [b](../README.md#start) [c](../README.md#away) [d](https://example.org) [e](/etc)"
    assert dead(text, page) == ["nowhere.md", "../README.md#away", "/etc"]
    assert len(PAGES) > 12


def facts(text: str) -> tuple[set[str], set[str], list[str]]:
    """What a front page in another language shares: where its links lead, its numbers, its lines of code."""
    links = {link.replace("notebooks/zh/", "notebooks/") for link in LINK.findall(text)}
    code = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
    numbers = set(re.findall(r"(?<![\w./])\d+(?:\.\d+)*", LINK.sub("]", code.sub("", text))))
    lines = [line.split("  #")[0].rstrip() for block in code.findall(text) for line in block.splitlines()]
    return {link for link in links if not link.startswith("README")}, numbers, lines


def test_the_chinese_front_page_has_the_same_links_numbers_and_code() -> None:
    assert facts(CHINESE_README) == facts(README)
    for altered in (("1.4 GB", "1.5 GB"), ("docs/gpu.md", "docs/cpu.md"), ("accum plan", "accum scheme")):
        assert facts(CHINESE_README.replace(*altered)) != facts(README)


def test_the_front_page_is_short() -> None:
    assert len(README.splitlines()) <= 110
    first_code = README.splitlines().index("```sh")
    assert first_code < 30
    assert len(README.split("```python\n")[1].split("```")[0].splitlines()) <= 12


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_code_of_the_front_page_gives_the_gradient_of_one_big_batch(capsys) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 3).double()
    inputs, labels = torch.randn(14, 4).double(), torch.randint(3, (14,))
    loss = torch.nn.functional.cross_entropy(model(inputs[:10]), labels[:10])  # one batch, the first window
    big = torch.autograd.grad(loss, list(model.parameters()))
    clipped = big[0] / max(1.0, torch.linalg.vector_norm(torch.cat([g.flatten() for g in big])).item())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    sizes = [2, 3, 1, 4, 4]  # the last window holds one micro-batch
    loader = list(zip(inputs.split(sizes), labels.split(sizes), strict=True))
    seen = []
    optimizer.register_step_pre_hook(lambda *_: seen.append(model.weight.grad.clone()))
    (code,) = blocks(README, "python")
    exec(code, {"model": model, "optimizer": optimizer, "scheduler": scheduler, "loader": loader})
    losses = [float(each) for each in capsys.readouterr().out.split()]
    assert len(losses) == len(seen) == 2
    assert losses[0] == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(seen[0], clipped, rtol=1e-5, atol=0)


def commands(text: str) -> list[list[str]]:
    lines = [line for block in blocks(text, "sh") for line in block.splitlines() if line]
    return [shlex.split(line.partition("#")[0]) for line in lines]


QUICKER = {  # what a test adds, so that it takes seconds; None: tests/check and tests/training run it
    "check": [], "plan": [], "train": ["--max-updates", "1"], "predict": None, "scoreboard": None,
}  # fmt: skip


def test_every_command_of_the_front_page_is_known() -> None:
    found = commands(README)
    assert len(found) == 7
    for words in found:
        if words[:2] == ["python", "start.py"]:
            assert words[2] in start.TASKS
        else:
            assert words[0] == "accum"
            assert words[1] in QUICKER
    for task in re.findall(r"`(?:python )?start\.py ([\w-]+)`", README):
        assert task in start.TASKS
    assert {words[1] for words in found if words[0] == "accum"} == set(QUICKER)


@pytest.mark.parametrize(
    "command", [words for words in commands(README) if words[0] == "accum"], ids=lambda w: w[1]
)
def test_every_command_of_the_front_page_runs(command, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    more = QUICKER[command[1]]
    if more is None:
        with pytest.raises(SystemExit) as shown:
            main([command[1], "--help"])
        assert shown.value.code == 0
        return
    assert main([*command[1:], *more]) == (1 if command[1] == "check" else 0)
    said = capsys.readouterr().out
    assert {"check": "mean_of_means", "plan": "K = ", "train": "Held out"}[command[1]] in said


def test_a_command_that_does_not_exist_would_be_noticed(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["fly", "--to", "the moon"])
    assert "invalid choice: 'fly'" in capsys.readouterr().err


def test_the_pages_name_both_shells_and_every_extra() -> None:
    install = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    assert "PowerShell" in install
    assert "py start.py lab" in install
    library = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
    for extra in ("check", "memory", "noise", "train", "frameworks", "notebooks", "data"):
        assert f"| `{extra}` |" in library


def version_table(page: str) -> dict[str, tuple[str, str]]:
    """The oldest and the pinned version of each package, as the page says them."""
    rows = re.findall(r"^\| ([a-z][\w-]*) \| ([\d.]+) \| ([\d.]+) \|", page, re.MULTILINE)
    return {name: (oldest, pinned) for name, oldest, pinned in rows}


def test_the_page_of_versions_has_the_declared_ranges_and_the_pins() -> None:
    page = (ROOT / "docs" / "versions.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    wanted = {name: (oldest, pins[name]) for name, oldest in ranges(project).items()}
    assert version_table(page) == wanted
    assert version_table(page.replace("| 6.0 |", "| 5.9 |")) != wanted
    with pytest.raises(ValueError, match="is not of the form"):
        ranges({"dependencies": ["torch==2.13.0"], "optional-dependencies": {}})
    with pytest.raises(ValueError, match="take one"):
        ranges({"dependencies": ["a>=1"], "optional-dependencies": {"b": ["a>=2"]}})
