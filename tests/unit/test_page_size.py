"""The size of a page of a log: halved down to the item at fault, and doubled again."""

from __future__ import annotations

from actors._follower import PageSize


def test_a_page_is_halved_down_to_one_item_and_doubled_up_to_its_most() -> None:
    page = PageSize(10)
    sizes = []
    while page.halve():
        sizes.append(page.now)
    assert sizes == [5, 2, 1]
    page.restore()
    assert page.now == 2
    for _ in range(5):
        page.restore()
    assert page.now == 10
