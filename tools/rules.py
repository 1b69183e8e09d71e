"""What a translation must keep of the English, and how Chinese is set: each rule names what breaks it."""

import re
from collections.abc import Iterator

from markdown_it import MarkdownIt

PLACEHOLDER = re.compile(r"\{\w+(?:![rsa])?(?::[^{}]*)?\}")
CODE = re.compile(r"`[^`]+`")
FORMULA = re.compile(r"\$\$?[^$]+\$\$?")
BESIDE = re.compile("|".join(kind.pattern for kind in (CODE, FORMULA, PLACEHOLDER)))
LINK = re.compile(r"\]\(([^)]+)\)")
TAG = re.compile(r"</?[a-z]+(?: [^<>]*)?>")
MILLIONS = re.compile(r"(\d+) million")  # Chinese counts by hundreds of millions: 125 million is 1.25 亿
NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*")
SYMBOL = re.compile(r"(?<![A-Za-z_'])[MKBN](?![A-Za-z_'.])")
WHOLE = {"code": CODE, "the formula": FORMULA, "the link to": LINK}  # looked for in the texts as they are
BARE = {"the tag": TAG, "the number": NUMBER, "the symbol": SYMBOL}  # looked for beside code and formulas

HAN = "\u3400-\u9fff"
MARKS = "，。；：！？、"
SETTING = {  # of Chinese: what is wrong, and how it looks
    "half-width punctuation beside Chinese": rf"[{HAN}][,;:!?]|[,;:!?] *[{HAN}]|[{HAN}]\.(?=\s|$)",
    "half-width brackets around Chinese": rf"\([^()]*[{HAN}][^()]*\)|[{HAN}]\(|\)[{HAN}]",
    "a space beside full-width punctuation": rf"[^|\n] (?=[{MARKS}）」』])|[{MARKS}（「『] (?![*|_])",
    "no space between Chinese and Latin": rf"[{HAN}](?=[A-Za-z0-9`])|[A-Za-z0-9`%](?=[{HAN}])",
    "a space between two Chinese characters": rf"[{HAN}] (?=[{HAN}])",
    "a space before %": r"[\d}] %",
    "a colon inside bold": r"：\*\*",
}
HOW_MANY = r"(?:\{[^{}]*\}|[\d.,/]+|[A-Z](?:/[a-z])?|[一二两三四五六七八九十百几数]+)"
WORDING = {  # half of it is 只有二分之一, three times as large is 是三倍; and one word for one thing
    "a decrease, or an excess, counted in 倍": rf"(?:(?<![最大])[短小少慢]了?|[长大高快多]了)约? ?{HOW_MANY}"
    rf"(?: ?[和到至、] ?{HOW_MANY})* ?倍",
    "a word that the list of terms does not have": "传递|竞赛|探索器|走步",
}


def faults(english: str, translation: str) -> Iterator[str]:
    """Everything that is wrong with one translation, in words."""
    wanted, found = (sorted(set(PLACEHOLDER.findall(text))) for text in (english, translation))
    if wanted != found:
        yield f"the placeholders are {found or 'none'} where the English has {wanted or 'none'}"
    yield from _lost(english, translation)
    yield from misset(translation)
    if unclosed(translation) and not unclosed(english):
        yield "a * that Markdown shows as it is: emphasis must begin and end beside a word, not punctuation"


def misset(chinese: str) -> Iterator[str]:
    """What is wrong with a Chinese text by itself."""
    for name, pattern in (SETTING | WORDING).items():
        if match := re.search(pattern, chinese):
            near = chinese[max(0, match.start() - 8) : match.end() + 8]
            yield f"{name}: …{near}…"


def _lost(english: str, translation: str) -> Iterator[str]:
    bare, bare_translation = (BESIDE.sub("", text) for text in (english, translation))
    bare = MILLIONS.sub(lambda found: f"{int(found[1]) / 100:g}", bare)
    for name, pattern in (WHOLE | BARE).items():
        texts = (english, translation) if name in WHOLE else (bare, bare_translation)
        before, after = (set(pattern.findall(text)) for text in texts)
        if missing := sorted(before - after):
            yield f"{name} {', '.join(missing)} got lost"
        if name in (*WHOLE, "the tag") and (added := sorted(after - before)):
            yield f"{name} {', '.join(added)} is not in the English"


def unclosed(markdown: str) -> bool:
    """Whether a star is left in the text once Markdown has made emphasis of the others."""
    inline = (token for token in MarkdownIt("commonmark").parse(markdown) if token.type == "inline")
    return any(
        "*" in child.content for token in inline for child in token.children or [] if child.type == "text"
    )
