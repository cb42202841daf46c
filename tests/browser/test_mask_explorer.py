"""The mask explorer shows what `MediaLayout` gives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flamingo_blocks import MediaLayout

pytestmark = pytest.mark.browser
READ = """const text = maskExplorer.tokenize(arguments[0]);
return maskExplorer.read({...text, scope: arguments[1], direction: arguments[2]});"""
PAGE = "/explanation/masks-and-layouts/"
WAYS = st.sampled_from((("last", "previous"), ("last", "next"), ("all", "previous"), ("grouped", "previous")))
ROWS = st.lists(st.lists(st.sampled_from(("<image>", "cat", "<EOC>")), min_size=1, max_size=6), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def explorer(browser, site):
    """The page, opened."""
    browser.get(site + PAGE)
    return browser


@settings(max_examples=150)
@given(documents=ROWS, way=WAYS)
def test_masks_are_those_of_the_library(explorer, documents, way):
    """For any text, in documents of a packed row, with any scope and direction."""
    scope, direction = way
    text = "\n".join(" ".join(words) for words in documents)
    found = explorer.execute_script(READ, text, scope, direction)
    tokens = [word for words in documents for word in words]
    document = [number for number, words in enumerate(documents) for _ in words]
    layout = MediaLayout.from_tokens(
        torch.tensor([[word == "<image>" for word in tokens]]), scope=scope, direction=direction,
        document=torch.tensor([document]),
    )  # fmt: skip
    assert found["mask"] == layout.mask()[0].tolist()
    seen = [(row.index(True), len(row) - 1 - row[::-1].index(True)) if any(row) else None for row in found["mask"]]
    assert [None if each is None else tuple(each) for each in found["ranges"]] == seen


def test_what_is_typed_is_shown(explorer):
    """A text, a scope and a direction change the picture and the code below it; what cannot be asked is said."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    place = explorer.find_element(By.ID, "mask-explorer")
    text = place.find_element(By.NAME, "text")
    text.clear()
    text.send_keys("<image>a cat\n<image> <image> b")
    rows = place.find_elements(By.CSS_SELECTOR, "tbody tr")
    shown = [[cell.text for cell in row.find_elements(By.CSS_SELECTOR, "th, td")] for row in rows]
    assert shown == [
        ["<image>", "0", "sees", "", ""], ["a", "0", "sees", "", ""], ["cat", "0", "sees", "", ""],
        ["<image>", "1", "", "sees", ""], ["<image>", "2", "", "", "sees"], ["b", "2", "", "", "sees"],
    ]  # fmt: skip
    Select(place.find_element(By.NAME, "scope")).select_by_value("grouped")
    assert place.find_elements(By.CSS_SELECTOR, "tbody tr")[5].text.split() == ["b", "1-2", "sees", "sees"]
    code = place.find_element(By.TAG_NAME, "code").text
    names = {"torch": torch, "MediaLayout": MediaLayout}
    exec(code, names)
    assert names["layout"].mask()[0, 5].tolist() == [False, True, True]
    Select(place.find_element(By.NAME, "direction")).select_by_value("next")
    assert 'direction "next" is for scope "last"' in place.find_element(By.CSS_SELECTOR, "[role=alert]").text
    Select(place.find_element(By.NAME, "scope")).select_by_value("last")
    assert [row.text.split()[1] for row in place.find_elements(By.CSS_SELECTOR, "tbody tr")][:2] == ["0", "-"]
