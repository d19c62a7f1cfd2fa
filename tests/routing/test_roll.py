"""Roll: a dict in blocks. Compared with a plain dict and a list of numbers, whatever comes and goes."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trio_broker.routing.roll import CAPACITY, Roll


def filled(count: int) -> Roll[int, str]:
    roll = Roll[int, str]()
    for number in range(count):
        roll.put(number, str(number))
    return roll


def test_a_page_is_found_anywhere() -> None:
    roll = filled(1000)
    for offset in (0, 1, CAPACITY - 1, CAPACITY, CAPACITY + 1, 990):
        assert [key for key, _ in roll.page(offset, 10)] == list(range(offset, min(offset + 10, 1000)))
    assert [key for key, _ in roll.page(100, 800)] == list(range(100, 900))
    assert roll.page(995, 10)[-1] == (999, "999")
    assert roll.page(1000, 10) == []
    assert roll.page(0, 0) == []
    assert filled(0).page(0, 10) == []


def test_a_walk_goes_on_where_it_was() -> None:
    roll = filled(500)
    seen: list[int] = []
    number = -1
    while found := roll.after(number, 64):
        seen += [key for key, _ in found]
        number = roll.number(found[-1][0]) or 0
    assert seen == list(range(500))
    assert filled(0).after(-1, 10) == []


def test_a_walk_sees_what_stays_exactly_once_while_others_come_and_go() -> None:
    roll = filled(2000)
    staying = set(range(0, 2000, 7))
    going = [key for key in range(2000) if key not in staying]
    seen: list[int] = []
    number, new = -1, 2000
    while found := roll.after(number, 50):
        seen += [key for key, _ in found if key in staying]
        last = roll.number(found[-1][0])
        assert last is not None
        number = last
        for _ in range(100):
            if going:
                roll.pop(going.pop())
        if new < 2100:
            roll.put(new, "new")
            new += 1
    assert seen == sorted(staying)


def test_what_is_left_of_many_is_kept_in_few_blocks() -> None:
    roll = filled(CAPACITY * 100)
    assert len(roll.blocks) == 100
    for key in range(CAPACITY * 100):
        if key % CAPACITY:
            roll.pop(key)
    assert len(roll) == 100
    assert len(roll.blocks) <= 4
    assert [key for key, _ in roll.items()] == [CAPACITY * at for at in range(100)]
    for key in list(dict(roll.items())):
        assert roll.pop(key) == str(key)
    assert roll.blocks == []
    roll.put(7, "again")
    assert (roll.number(7), roll[7]) == (CAPACITY * 100, "again")


def test_leads_of_what_is_gone_keep_their_place() -> None:
    roll = filled(CAPACITY * 3)
    for key in range(CAPACITY, CAPACITY * 2):
        roll.lead(key, 1)
        roll.pop(key)
    assert sum(block.leads for block in roll.blocks) == CAPACITY
    for key in range(CAPACITY, CAPACITY * 2):
        roll.lead(key, -1)
    assert [len(block.entries) for block in roll.blocks] == [CAPACITY, CAPACITY]
    alone = filled(1)
    alone.lead(0, 1)
    alone.pop(0)
    assert len(alone.blocks) == 1
    alone.lead(0, -1)
    assert alone.blocks == []


class RollModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.roll = Roll[int, int]()
        self.numbers: dict[int, int] = {}
        self.values: dict[int, int] = {}
        self.next = 0

    @rule(key=st.integers(0, 2000), value=st.integers())
    def put(self, key: int, value: int) -> None:
        if key not in self.values:
            self.numbers[key] = self.next
            self.next += 1
        self.values[key] = value
        assert self.roll.put(key, value).entries[key] == value

    @rule(first=st.integers(0, 1900), count=st.integers(1, 400))
    def put_many(self, first: int, count: int) -> None:
        for key in range(first, first + count):
            self.put(key=key, value=key)

    @rule(key=st.integers(0, 2000))
    def pop(self, key: int) -> None:
        self.numbers.pop(key, None)
        assert self.roll.pop(key) == self.values.pop(key, None)

    @rule(first=st.integers(0, 2300), step=st.integers(1, 5), count=st.integers(1, 500))
    def pop_many(self, first: int, step: int, count: int) -> None:
        for key in range(first, first + step * count, step):
            self.pop(key=key)

    @rule(offset=st.integers(0, 2500), limit=st.integers(0, 400))
    def page(self, offset: int, limit: int) -> None:
        assert self.roll.page(offset, limit) == list(self.values.items())[offset : offset + limit]

    @rule(number=st.integers(-1, 3000), limit=st.integers(1, 400))
    def after(self, number: int, limit: int) -> None:
        behind = [(key, value) for key, value in self.values.items() if self.numbers[key] > number]
        assert self.roll.after(number, limit) == behind[:limit]
        values, last = self.roll.values_after(number, limit)
        assert values == [value for _, value in behind[: len(values)]]
        assert last == (self.numbers[behind[len(values) - 1][0]] if values else number)
        assert bool(values) is bool(behind)
        assert len(values) <= max(limit, CAPACITY)

    @invariant()
    def they_agree(self) -> None:
        roll = self.roll
        assert len(roll) == len(self.values)
        assert list(roll.items()) == list(self.values.items())
        assert list(roll.values()) == list(self.values.values())
        assert all(block.entries for block in roll.blocks)
        assert all(len(block.entries) <= CAPACITY for block in roll.blocks)
        for key in (0, 17, 2000):
            assert roll.number(key) == self.numbers.get(key)
            assert (key in roll, roll.get(key)) == (key in self.values, self.values.get(key))
            assert (roll.block_of(key) is None) is (key not in self.values)


RollModel.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestRollModel = RollModel.TestCase
