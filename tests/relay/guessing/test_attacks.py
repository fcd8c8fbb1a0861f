"""Four attacks in simulated time: what each gets judged, who is banned, and that nobody honest notices."""

from relay.guessing import model as rules
from tests.relay.guessing.attack import World


def test_distributed_guessing_of_one_name() -> None:
    """250 addresses against one name for an hour, 90,000 guesses: few are judged, all are put off, the owner is not."""
    world = World(secrets={"app.alice": "right"})
    world.login("192.0.2.10", "app.alice", "right")
    owner = []
    for second in range(3600):
        for number in range(25):
            address = (second * 25 + number) % 250
            world.login(f"203.{address}.113.9", "app.alice", f"guess{second}-{number}")
        if second % 60 == 0:
            owner.append(world.login("192.0.2.10", "app.alice", "right"))
            owner.append(world.login(f"192.0.2.{100 + second // 60}", "app.alice", "right"))  # never seen before
        world.now += 1
    assert set(owner) == {"ok"}
    guesses = world.judged["app.alice"] - len(owner) - 1
    assert guesses <= 250 * 40, guesses  # of 90,000
    assert {ban.cidr for ban in world.bans} == {f"203.{address}.113.9/32" for address in range(250)}
    assert all(ban.names == ("app.alice",) and ban.addresses == 1 for ban in world.bans)


def test_an_office_behind_one_address() -> None:
    """One device with an old password and fifty people who sign in all day: nobody is ever held back."""
    secrets = {f"user{number}.office": f"right{number}" for number in range(50)}
    world = World(secrets=secrets)
    answers = set()
    for minute in range(8 * 60):
        for repeat in range(12):
            assert world.login("203.0.113.5", "printer.office", "old password") == "no", (minute, repeat)
            world.now += 5
        name = f"user{minute % 50}.office"
        answers.add(world.login("203.0.113.5", name, secrets[name]))
    assert answers == {"ok"}
    assert world.bans == []


def test_an_attacker_inside_the_office() -> None:
    """Somebody behind the office's address sprays passwords: he is put off, the office works on and is not banned."""
    secrets = {f"user{number}.office": f"right{number}" for number in range(50)}
    world = World(secrets=secrets)
    for name, secret in secrets.items():
        assert world.login("203.0.113.5", name, secret) == "ok"
    answers, sprayed = set(), []
    for number in range(20_000):
        sprayed.append(world.login("203.0.113.5", f"user{number % 1000}.office", f"Winter{number // 1000}"))
        if number % 100 == 0:
            name = f"user{number // 100 % 50}.office"
            answers.add(world.login("203.0.113.5", name, secrets[name]))
        world.now += 0.1
    assert answers == {"ok"}
    assert world.bans == []
    assert sprayed.count("wait") > 0.9 * len(sprayed)


def test_password_spraying() -> None:
    """One address, one password, 10,000 names: twenty are judged before it waits, and then it is banned."""
    world = World(secrets={f"user{number}.x": "right" for number in range(10_000)})
    answers = [world.login("203.0.113.9", f"user{number}.x", "Winter2026!") for number in range(10_000)]
    assert answers.count("no") == rules.ADDRESS.most
    assert [ban.cidr for ban in world.bans] == ["203.0.113.9/32"]
    [ban] = world.bans
    assert ban.failures == rules.ADDRESS_PRESSURE.most and len(ban.names) == rules.SAMPLES_MAX
    assert answers.count("banned") == 10_000 - rules.ADDRESS_PRESSURE.most
    assert world.login("203.0.113.10", "user1.x", "right") == "ok"  # its neighbour has done nothing


def test_hopping_through_a_64() -> None:
    """Each guess from another address of one /64: the /64 is one party. A neighbour there who signs in goes on."""
    world = World(secrets={"app.alice": "right"})
    assert world.login("2001:db8:1:2::77", "app.alice", "right") == "ok"
    answers = [world.login(f"2001:db8:1:2::{number:x}", f"user{number}.x", "x") for number in range(256, 5_256)]
    assert answers.count("no") == rules.ADDRESS.most
    assert [ban.cidr for ban in world.bans] == ["2001:db8:1:2::/64"]
    assert world.bans[0].addresses == rules.ADDRESS_PRESSURE.most
    assert world.login("2001:db8:1:2::77", "app.alice", "right") == "ok"
    assert world.login("2001:db8:1:3::1", "app.alice", "right") == "ok"


def test_a_24_that_attacks_together() -> None:
    """256 addresses of one /24 that take turns: the /24 is put off and banned, the customer inside is not."""
    world = World(secrets={"app.alice": "right"})
    assert world.login("203.0.113.200", "app.alice", "right") == "ok"
    answers = [world.login(f"203.0.113.{number % 199}", f"user{number}.x", f"x{number}") for number in range(20_000)]
    assert answers.count("no") <= rules.NEIGHBOURHOOD.most
    assert "203.0.113.0/24" in {ban.cidr for ban in world.bans}
    assert world.login("203.0.113.200", "app.alice", "right") == "ok"
    assert world.login("203.0.114.1", "app.alice", "right") == "ok"
