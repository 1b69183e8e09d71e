"""What an exercise in the page says of its own accord; what its check says comes from the check."""

TEXTS = {
    "label": {"en": "Your code for {name}", "zh": "你的代码：{name}"},
    "keys": {
        "en": "Ctrl+Enter checks. Tab indents; to leave the editor by keyboard, press Esc, then Tab.",
        "zh": "Ctrl+Enter 检查。Tab 键缩进；要用键盘离开编辑框，先按 Esc，再按 Tab。",
    },
    "check": {"en": "Check", "zh": "检查"},
    "again": {"en": "Start over", "zh": "重新开始"},
    "running": {"en": "Running …", "zh": "正在运行……"},
    "printed": {"en": "Printed by your code", "zh": "你的代码打印的内容"},
    "different": {
        "en": "Not yet: for {call} your function returns {value}, and that is not right.",
        "zh": "还不对：对于 {call}，你的函数返回 {value}，这不正确。",
    },
    "nothing": {
        "en": "Not yet: for {call} your function returns nothing.",
        "zh": "还不对：对于 {call}，你的函数没有返回任何值。",
    },
    "missing": {
        "en": "Not yet: there is no function {name}. Keep the name that the exercise has.",
        "zh": "还不对：没有名为 {name} 的函数。请保留练习中的名字。",
    },
    "at_line": {"en": " (line {line})", "zh": "（第 {line} 行）"},
    "not_run": {
        "en": "Not yet: your code cannot be run: {kind}: {error}",
        "zh": "还不对：你的代码无法运行：{kind}：{error}",
    },
    "small": {
        "en": "This page runs MicroPython, which lacks parts of Python. If Python itself would run this, "
        "check it in the notebook.",
        "zh": "本页运行的是 MicroPython，它缺少 Python 的一部分功能。"
        "如果这段代码在 Python 中可以运行，请在笔记本中检查。",
    },
    "too_long": {
        "en": "Not yet: your code was still running after {seconds} seconds, so it was stopped. "
        "Does a loop never end?",
        "zh": "还不对：你的代码运行了 {seconds} 秒仍未结束，已被停止。是不是有循环永远不会结束？",
    },
    "broken": {
        "en": "Not yet: your code brought Python itself to an end. Does a function call itself without end?",
        "zh": "还不对：你的代码让 Python 本身停止了运行。是不是有函数无休止地调用自己？",
    },
    "cannot_start": {
        "en": "Python could not be started in this page ({error}). The notebook has the same exercise.",
        "zh": "无法在本页中启动 Python（{error}）。笔记本中有同样的练习。",
    },
    "notebook": {
        "en": "This exercise needs PyTorch, which does not run in a page. Solve it in the notebook {file}.",
        "zh": "这个练习需要 PyTorch，它无法在网页中运行。请在笔记本 {file} 中完成。",
    },
}
