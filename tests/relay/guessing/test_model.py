"""What the model promises, whatever is done to it."""

from ipaddress import ip_network
from itertools import count
from time import process_time

from hypothesis import given
from hypothesis import strategies as st

from relay.guessing import model as rules
from relay.guessing.addresses import Protected
from relay.guessing.model import Model
from tests.relay.guessing.attack import START, World, tried

IPS = ("203.0.113.7", "203.0.113.8", "198.51.100.9", "10.0.0.5", "2001:db8::1", "2001:db8::2")
NAMES = ("app.alice", "shop.alice", "nobody.x")
attempts = st.lists(
    st.tuples(
        st.sampled_from(IPS),
        st.sampled_from(NAMES),
        st.sampled_from(("right", "wrong1", "wrong2", "wrong3", None)),
        st.floats(0, 600),
    ),
    max_size=120,
)
SECRETS = dict.fromkeys(NAMES[:2], "right")


@given(attempts)
def test_the_secret_that_succeeded_is_never_held_back_where_it_did(
    events: list[tuple[str, str, str | None, float]],
) -> None:
    """Whatever an address, its neighbours or anybody else does: who signed in from it signs in again."""
    world = World(secrets=SECRETS)
    assert world.login("203.0.113.7", "app.alice", "right") == "ok"
    for ip, name, secret, pause in events:
        world.now += pause
        world.login(ip, name, secret)
        assert world.login("203.0.113.7", "app.alice", "right") == "ok"


@given(attempts)
def test_nobody_is_locked_out_from_outside(events: list[tuple[str, str, str | None, float]]) -> None:
    """An address that never failed, in a neighbourhood of its own, is judged at once, for every name."""
    world = World(secrets=SECRETS)
    for ip, name, secret, pause in events:
        world.now += pause
        world.login(ip, name, secret)
    assert all(world.model.wait(tried("192.0.2.200", name, "anything"), world.now) == 0 for name in NAMES)


@given(attempts)
def test_waits_are_whole_seconds_and_bounded(events: list[tuple[str, str, str | None, float]]) -> None:
    """Nobody is told to wait an hour, and who waited as told is judged."""
    world = World(secrets=SECRETS)
    for ip, name, secret, pause in events:
        world.now += pause
        each = tried(ip, name, secret)
        wait = world.model.wait(each, world.now)
        assert isinstance(wait, int) and 0 <= wait <= 91 * 30 + 1
        assert world.model.wait(each, world.now + wait) == 0
        world.login(ip, name, secret)


@given(st.integers(1, 400), st.floats(0, 20))
def test_a_pair_gets_no_more_guesses_than_its_rule(guesses: int, pause: float) -> None:
    """Different secrets for one name from one address: five, and one a minute."""
    world, began = World(), START
    for number in range(guesses):
        world.login("10.0.0.5", "app.alice", f"guess{number}")
        world.now += pause
    passed = world.now - began
    assert world.judged["app.alice"] <= rules.PAIR.most + passed / rules.PAIR.every + 1


@given(st.integers(1, 40), st.integers(1, 40))
def test_sending_a_guess_while_it_waits_does_not_make_it_free(prepared: int, rounds: int) -> None:
    """A guess that was put off still counts when it is judged, and one sent twice buys nothing."""
    world, numbers = World(), count()
    for _round in range(rounds):
        for _guess in range(prepared):
            secret = f"guess{next(numbers) // 2}"
            world.login("10.0.0.5", "app.alice", secret)
            world.login("10.0.0.5", "app.alice", secret)
        world.now += 60
    assert len(world.guessed) <= rules.PAIR.most + rounds


def test_a_secret_that_is_repeated_counts_once() -> None:
    """A device with an old password fails for a week, is told so each time, and is neither put off nor banned."""
    world = World(secrets=SECRETS)
    answers = set()
    for _attempt in range(7 * 24 * 60):
        answers.add(world.login("203.0.113.7", "app.alice", "old"))
        world.now += 60
    assert answers == {"no"}
    assert world.bans == []
    assert world.login("203.0.113.7", "shop.alice", "right") == "ok"


def test_a_device_whose_secret_is_not_seen_is_put_off_but_never_banned() -> None:
    """SCRAM: a repeated failure cannot be told from a guess, so it waits; its address is left alone."""
    world = World(secrets=SECRETS)
    answers = [world.login("203.0.113.7", "app.alice", None) for _attempt in range(500)]
    assert answers.count("no") == rules.PAIR.most
    assert world.bans == []
    assert world.login("203.0.113.7", "shop.alice", "right") == "ok"


def test_who_signs_in_from_all_of_a_64_guesses_no_more_than_from_one_address() -> None:
    """Each address of an IPv6 network is trusted after a sign-in; what fails there counts for the network."""
    world = World(secrets={"own.mallory": "right"})
    addresses = [f"2001:db8::{number:x}" for number in range(40)]
    assert {world.login(ip, "own.mallory", "right") for ip in addresses} == {"ok"}
    for ip in addresses:
        for guess in range(50):
            world.login(ip, f"user{guess}.alice", f"guess of {ip}")
    del world.judged["own.mallory"]
    assert world.judged.total() <= rules.TRUSTED_ADDRESS.most + 1


def test_protected_addresses_are_bound_by_pairs_alone() -> None:
    """Behind a private address may be a whole site: names are put off one by one, and no ban comes of it."""
    world = World()
    for number in range(5_000):
        world.login("10.0.0.5", f"user{number}.x", "password")
        world.now += 0.1
    assert world.bans == [] and not world.put_off


def test_an_operators_range_is_protected_from_the_next_login_on() -> None:
    """Ranges may be named and taken away while the model runs."""
    protected = Protected()
    assert "203.0.113.7" not in protected
    protected.name([ip_network("203.0.113.0/24")])
    assert "203.0.113.7" in protected and "10.1.2.3" in protected and "::1" in protected
    protected.name([])
    assert "203.0.113.7" not in protected


def test_a_lifted_range_begins_anew() -> None:
    """After forget() nothing is held against the address, its neighbourhood or its pairs."""
    world = World(ban_seconds=0)
    for number in range(200):
        world.login("203.0.113.7", f"user{number % 40}.x", f"guess{number}")
    assert world.bans and world.model.wait(tried("203.0.113.7", "user1.x", "one more"), world.now)
    world.model.forget("203.0.113.7/32")
    assert world.model.wait(tried("203.0.113.7", "user1.x", "one more"), world.now) == 0


def test_many_lifted_ranges_take_no_longer_than_one() -> None:
    """An operator who protects a range in a flood lifts a thousand bans at once; every session waits meanwhile."""
    model = Model(protected=set())
    for number in range(20_000):
        model.failed(tried(f"203.{number // 65536}.{number // 256 % 256}.{number % 256}", f"user{number}", "x"), START)
    began = process_time()
    model.forget("203.0.0.0/24")
    one = process_time() - began
    ranges = [f"203.0.{number // 256}.{number % 256}/32" for number in range(256, 1_256)]
    began = process_time()
    model.forget(*ranges)
    assert process_time() - began < 10 * one
    assert len(model._pairs) == 20_000 - 256 - 1_000


def test_memory_is_bounded() -> None:
    """Many more names and addresses are as many keys as the model keeps."""
    model = Model(protected=set(), keys_max=1_000)
    for number in range(5_000):
        model.failed(tried(f"203.0.{number // 250 % 250}.{number % 250}", f"user{number}", "x"), START)
    assert len(model._pairs) <= 1_000 and len(model._names) <= 1_000


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60))
def test_trust_is_of_the_address_that_earned_it(order: list[int]) -> None:
    """An address with a recent success is never named as a culprit, whatever else is."""
    world = World(secrets=SECRETS)
    world.login("203.0.113.7", "app.alice", "right")
    for step, source in enumerate(order):
        for number in range(60):
            world.login(f"203.0.113.{7 + source}", f"u{number}", f"guess{step}")
        world.now += 5
    assert "203.0.113.7/32" not in {ban.cidr for ban in world.bans}
    assert world.login("203.0.113.7", "app.alice", "right") == "ok"
