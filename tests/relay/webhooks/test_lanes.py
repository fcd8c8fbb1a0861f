"""relay.webhooks.lanes: who posts now."""

from hypothesis import given, settings
from hypothesis import strategies as st

from relay.webhooks.lanes import AHEAD, GOOD, POOR, WIDTH_FIRST, WIDTH_MAX, Lanes


def test_a_good_one_widens_and_a_poor_one_goes_one_by_one() -> None:
    """Each quick success is one more at once; a failure or a slow answer ends that, and gives back what waits."""
    lanes: Lanes[int] = Lanes()
    for number in range(200):
        lanes.put(7, number)
    started = [lanes.next() for _number in range(WIDTH_FIRST + 1)]
    assert started[-1] is None
    for _number in range(WIDTH_MAX * 2):
        assert lanes.done(7, was_poor=False, seconds=0.1, is_success=True) == ()
        while lanes.next() is not None:
            pass
    assert lanes.room().of[7] == (max(0, WIDTH_MAX * AHEAD - WIDTH_MAX - lanes.waiting), False)
    waiting = lanes.waiting
    assert len(lanes.done(7, was_poor=False, seconds=3, is_success=True)) == waiting
    assert lanes.room().of[7] == (0, True)  # its others still run
    for _number in range(WIDTH_MAX - 1):
        lanes.done(7, was_poor=False, seconds=0.1, is_success=False)
    assert lanes.room().of[7] == (1, True)
    lanes.put(7, 1)
    assert lanes.next() == (1, True)
    lanes.done(7, was_poor=True, seconds=0.1, is_success=True)
    assert lanes.room().of[7] == (WIDTH_FIRST * AHEAD, False)


def test_poor_ones_never_take_the_good_ones_threads() -> None:
    """Of a hundred poor ones two run at once; a good one beside them has its own."""
    lanes: Lanes[int] = Lanes(good=4, poor=2)
    for pk in range(100):
        lanes.put(pk, pk)
        if (item := lanes.next()) is not None:
            lanes.done(pk, was_poor=item[1], seconds=0, is_success=False)
    for pk in range(100):
        lanes.put(pk, pk)
    assert [each[1] for each in iter(lanes.next, None)] == [True, True]
    assert lanes.room().poor == 0
    lanes.put(1000, 1000)
    assert lanes.next() == (1000, False)


def test_one_owner_leaves_half_to_the_others() -> None:
    """Endpoints that were quick and then hang all at once: others are claimed for, and posted to, all the same."""
    lanes: Lanes[int] = Lanes()
    for pk in [pk for pk in range(20) for _number in range(WIDTH_MAX * AHEAD)]:
        lanes.put(pk, pk, owner=1)
    for _round in range(WIDTH_MAX * 20):
        item = lanes.next()
        assert item is not None
        lanes.done(item[0], was_poor=False, seconds=0.1, is_success=True)
    hanging = list(iter(lanes.next, None))
    assert len(hanging) == GOOD // 2
    assert lanes.room().good == GOOD * AHEAD // 2 and {room for room, _poor in lanes.room().of.values()} == {0}
    lanes.put(100, 100, owner=2)
    assert lanes.next() == (100, False)
    for pk, was_poor in hanging:
        lanes.done(pk, was_poor=was_poor, seconds=15, is_success=False)
    for pk in range(20):
        lanes.put(pk, pk, owner=1)
    assert [was_poor for _pk, was_poor in iter(lanes.next, None)].count(True) == POOR // 2
    assert lanes.room().poor == POOR // 2


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["put", "good", "bad", "slow"])), max_size=120))
def test_nothing_is_lost_and_no_bound_is_passed(steps: list[tuple[int, str]]) -> None:
    """Whatever happens in which order: what was put in is waiting, running, done or given back."""
    lanes: Lanes[int] = Lanes(good=3, poor=2)
    running: list[tuple[int, bool]] = []
    put = done = back = 0
    for pk, step in steps:
        if step == "put":
            lanes.put(pk, pk)
            put += 1
        elif running:
            endpoint_id, was_poor = running.pop(0)
            seconds = 5.0 if step == "slow" else 0.1
            given_back = lanes.done(endpoint_id, was_poor=was_poor, seconds=seconds, is_success=step != "bad")
            done, back = done + 1, back + len(given_back)
        running += iter(lanes.next, None)
        assert sum(not poor for _pk, poor in running) <= 3
        assert sum(poor for _pk, poor in running) <= 2
        assert put == done + back + len(running) + lanes.waiting
