"""The turnstile in front of the content: few at once, in order, and nobody waits for somebody who is slow."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from relay.smtp.turnstile import PLACES_MAX, PLACES_MIN, Turnstile
from tests.smtp.conftest import RunningDoor, Sender, content


def within_a_loop(what: Callable[[Turnstile], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        await what(Turnstile(asyncio.get_running_loop()))

    asyncio.run(run())


def test_as_many_as_there_are_places_and_then_in_order() -> None:
    """Who leaves lets the next one in, first come first served."""

    async def what(door: Turnstile) -> None:
        inside: list[int] = []

        async def come(number: int) -> None:
            await door.enter(number)
            inside.append(number)

        tasks = [asyncio.create_task(come(number)) for number in range(PLACES_MIN + 5)]
        await asyncio.sleep(0)
        assert (inside, door.waiting) == (list(range(PLACES_MIN)), 5)
        door.leave(7)
        await asyncio.sleep(0)
        assert PLACES_MIN < len(inside) < PLACES_MIN + 5
        for number in range(5):
            door.leave(number)
        await asyncio.gather(*tasks)
        assert inside == list(range(PLACES_MIN + 5))

    within_a_loop(what)


def test_there_are_more_places_while_answers_are_quick() -> None:
    """Up to a bound."""

    async def what(door: Turnstile) -> None:
        tasks = [asyncio.create_task(door.enter(number)) for number in range(10 * PLACES_MAX)]
        await asyncio.sleep(0)
        for number in range(9 * PLACES_MAX):
            door.leave(number)
            await asyncio.sleep(0)
        assert PLACES_MIN < door.places <= PLACES_MAX
        for number in range(9 * PLACES_MAX, 10 * PLACES_MAX):
            door.leave(number)
        await asyncio.gather(*tasks)

    within_a_loop(what)


def test_who_was_cancelled_is_passed_over() -> None:
    """A client that left while it waited takes no place."""

    async def what(door: Turnstile) -> None:
        for number in range(PLACES_MIN):
            await door.enter(number)
        gone, stays = (asyncio.create_task(door.enter(name)) for name in ("gone", "stays"))
        await asyncio.sleep(0)
        gone.cancel()
        door.leave(0)
        await stays
        assert door.waiting == 0

    within_a_loop(what)


def test_slow_ones_give_their_places_up() -> None:
    """Nobody leaves, and those who wait come in all the same."""

    async def what(door: Turnstile) -> None:
        for number in range(PLACES_MIN):
            await door.enter(number)
        async with asyncio.timeout(10):
            await asyncio.gather(*(door.enter(name) for name in range(100, 100 + 3 * PLACES_MIN)))

    within_a_loop(what)


def test_slow_clients_hold_nobody_up(door: RunningDoor, sender: Sender) -> None:
    """As many clients as there are places, and more, stop in the middle of their content: another one is served."""
    slow = [door.signed_in(sender) for _number in range(PLACES_MAX + 5)]
    for client in slow:
        assert client.say(f"MAIL FROM:<{sender.address}>").startswith("250")
        assert client.say("RCPT TO:<a@dest.example>").startswith("250")
        assert client.say("DATA").startswith("354")
        client.send(b"X-Slow: yes\r\n")
    assert door.signed_in(sender).message(sender.address, "b@dest.example", content=content()).startswith("250")
    for client in slow:
        client.send(content())
        assert client.reply().startswith("250")
