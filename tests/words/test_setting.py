"""Chinese is set and worded as the list of terms says, in the catalogues and wherever else it stands."""

import pathlib
import re
import tomllib

import catalogue
import pytest
from rules import faults, misset

from accum_lib.classroom import student
from web.exercise_texts import TEXTS

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.zh.md", ROOT / "notebooks" / "zh" / "README.md"]
OF_THE_SITE = tomllib.loads((ROOT / "web" / "texts.toml").read_text(encoding="utf-8"))
BROKEN = re.compile(r"[\u3400-\u9fff]\n(?=[\u3400-\u9fff])")  # browsers show a space there


def prose(markdown: str) -> list[str]:
    """The lines of a page, without code."""
    text = re.sub(r"^```.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL)
    return [re.sub(r"\]\([^)]*\)", "]", line) for line in text.splitlines()]


def wrong(texts: list[str]) -> list[str]:
    return [fault for text in texts for fault in misset(text)]


def test_the_catalogues_are_set_as_the_list_of_terms_says() -> None:
    assert wrong(list(catalogue.translations("zh_CN").values())) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_so_are_the_pages(page) -> None:
    text = page.read_text(encoding="utf-8")
    assert wrong(prose(text)) == []
    assert not BROKEN.search(text)


def test_so_are_the_sites_own_texts() -> None:
    assert wrong([said["zh"] for said in [*OF_THE_SITE.values(), *TEXTS.values()]]) == []
    assert wrong([line for line in student.README.splitlines() if re.search("[\u3400-\u9fff]", line)]) == []


@pytest.mark.parametrize(
    ("good", "bad", "says"),
    [
        ("更新只有应有的 1/K。", "更新短了 K 倍。", "counted in 倍"),
        ("只有应有的 r/K。", "短了 K/r 倍。", "counted in 倍"),
        ("减少到 1/4 和 1/16。", "少 4 和 16 倍。", "counted in 倍"),
        ("减少到 1/{ratio}", "少 {ratio:.2g} 倍", "counted in 倍"),
        ("更新次数是最少的 {updates} 倍", "更新次数少了 {updates} 倍", "counted in 倍"),
        ("用时变为十一到十二倍", "慢十一到十二倍", "counted in 倍"),
        ("约为应有值的三倍", "大了约三倍", "counted in 倍"),
        ("是小批量实测值的 2 倍", "比它小几倍", "counted in 倍"),
        ("多花 3%", "多花 3 %", "a space before %"),
        ("为 {share}%", "为 {share} %", "a space before %"),
        ("**问题**：模型", "**问题：** 模型", "a colon inside bold"),
        ("每一趟都求平均", "每次传递都求平均", "the list of terms"),
        ("03 的赛跑", "03 的竞赛", "the list of terms"),
        ("可用的交互图", "可用的探索器", "the list of terms"),
        ("每次更新调度一次", "每次更新走步一次", "the list of terms"),
    ],
)
def test_each_way_to_set_or_word_it_wrong_is_found(good, bad, says) -> None:
    assert list(misset(good)) == []
    assert says in "\n".join(misset(bad))


def test_a_line_broken_between_two_characters_is_found_and_code_is_not_read() -> None:
    assert BROKEN.search("所有单元格\n运行")
    assert not BROKEN.search("运行。\n所有")
    assert prose("一\n```sh\nx 10 %\n```\n[二](a.md)") == ["一", "", "[二]"]


def test_millions_are_counted_as_chinese_counts_them() -> None:
    assert not list(faults("125 million weights", "1.25 亿个权重"))
    assert "the number 1.25 got lost" in "\n".join(faults("125 million weights", "125 亿个权重"))
