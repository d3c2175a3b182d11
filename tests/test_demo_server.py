"""The misbehaving server: what it promises to do to its clients. Real sockets on the loopback, no waiting."""

from __future__ import annotations

import math
import socket
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from resilient_agents.demo.faults import HEALTHY, Fault, Outage, draw
from resilient_agents.demo.server import TOKENS, Server
from resilient_agents.demo.traffic import KINDS, PATHS, schedule

ALWAYS = Outage(0, math.inf)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(seed=1) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, trust_env=False) as client:
        yield client


def name_for(kind: str, path: str = "/chat") -> str:
    """A call whose first arrival meets this fault."""
    stream = path == "/stream"
    return next(
        name for name in map(str, range(10_000)) if draw(1, path, name, 1, stream=stream, down=False).kind == kind
    )


def get(client: httpx.Client, path: str, call: str) -> httpx.Response:
    return client.get(path, headers={"x-call": call})


# --------------------------------------------------------------------------------------------------------------- faults


def test_fates_depend_on_the_call_and_not_on_the_order() -> None:
    """Two runs meet the same faults, whatever the order in which calls arrive."""
    names = [f"call-{n}" for n in range(200)]
    forward = {name: draw(1, "/chat", name, 1, stream=False, down=False) for name in names}
    backward = {name: draw(1, "/chat", name, 1, stream=False, down=False) for name in reversed(names)}
    assert forward == backward


def test_fates_are_the_same_in_every_process() -> None:
    """A seed names one story for everybody: no hash randomisation gets in."""
    kinds = [draw(1, "/chat", f"call-{n}", 1, stream=False, down=False).kind for n in (0, 1, 9, 14)]
    assert kinds == ["none", "unavailable", "reset", "error"]


def test_another_seed_or_another_arrival_is_another_fate() -> None:
    """Retries draw anew, so that they can succeed; another seed is another story."""

    def story(seed: int, arrival: int) -> list[Fault]:
        return [draw(seed, "/chat", str(n), arrival, stream=False, down=False) for n in range(100)]

    assert story(1, 1) != story(2, 1)
    assert story(1, 1) != story(1, 2)


def test_every_fault_occurs_and_most_calls_go_well() -> None:
    """Each kind of fault has its share."""
    calls = Counter(draw(1, "/chat", str(n), 1, stream=False, down=False).kind for n in range(2000))
    streams = Counter(draw(1, "/stream", str(n), 1, stream=True, down=False).kind for n in range(2000))
    assert set(calls) == {"none", "rate_limit", "error", "unavailable", "slow", "reset"}
    assert set(streams) == {"none", "rate_limit", "unavailable", "no_token", "break", "stall", "truncate"}
    assert calls["none"] > 1300
    assert streams["none"] > 1100


def test_in_an_outage_nothing_goes_well() -> None:
    """While it is down every request fails."""
    kinds = {draw(1, "/chat", str(n), 1, stream=False, down=True).kind for n in range(100)}
    assert kinds == {"reset", "unavailable"}


def test_an_outage_has_a_beginning_and_an_end() -> None:
    """It covers its start and not its end."""
    assert [Outage(1, 2).covers(now) for now in (0.9, 1, 1.9, 2)] == [False, True, True, False]


# --------------------------------------------------------------------------------------------------------------- server


def test_a_good_answer_is_an_answer(client: httpx.Client) -> None:
    """A call that meets no fault gets 200 and JSON."""
    response = get(client, "/chat", name_for("none"))
    assert (response.status_code, response.json()) == (200, {"answer": "42"})


@pytest.mark.parametrize(("kind", "status"), [("rate_limit", 429), ("error", 500), ("unavailable", 503)])
def test_statuses(client: httpx.Client, kind: str, status: int) -> None:
    """Faults with a status answer with it, at once; 429 says when to come back."""
    response = get(client, "/chat", name_for(kind))
    assert response.status_code == status
    assert response.headers.get("retry-after") == ("1" if status == 429 else None)


def test_a_reset_is_a_reset(server: Server) -> None:
    """The connection is reset, not closed: a plain socket sees ECONNRESET."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(f"GET /chat HTTP/1.1\r\nHost: x\r\nx-call: {name_for('reset')}\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_a_slow_answer_outlasts_impatient_clients(client: httpx.Client) -> None:
    """A slow call has no answer yet when a client with a short limit gives up, and the server survives that."""
    with pytest.raises(httpx.ReadTimeout):
        client.get("/chat", headers={"x-call": name_for("slow")}, timeout=0.05)
    assert get(client, "/chat", name_for("none")).status_code == 200


def received(client: httpx.Client, call: str) -> list[str]:
    lines: list[str] = []
    with client.stream("GET", "/stream", headers={"x-call": call}) as response:
        response.raise_for_status()
        try:
            lines.extend(line for line in response.iter_lines() if line)
        except httpx.TransportError:
            lines.append("broken")
    return lines


def test_a_whole_stream_ends_with_its_mark(client: httpx.Client) -> None:
    """All tokens come, then [DONE]."""
    lines = received(client, name_for("none", "/stream"))
    assert lines == [*(f"data: token{n}" for n in range(TOKENS)), "data: [DONE]"]


def test_a_stream_may_break_before_its_first_token(client: httpx.Client) -> None:
    """The status was 200, and then nothing."""
    assert received(client, name_for("no_token", "/stream")) == ["broken"]


def test_a_stream_may_break_midway(client: httpx.Client) -> None:
    """Some tokens come, and then the connection breaks."""
    lines = received(client, name_for("break", "/stream"))
    assert lines[0] == "data: token0"
    assert lines[-1] == "broken"
    assert 3 < len(lines) <= TOKENS


def test_a_stream_may_end_without_its_mark(client: httpx.Client) -> None:
    """Cleanly, and be gone on with: the rest is as if it had been whole."""
    lines = received(client, name_for("truncate", "/stream"))
    assert lines == [f"data: token{n}" for n in range(len(lines))]
    assert 3 <= len(lines) < TOKENS
    rest = client.get("/stream", params={"from": len(lines)}, headers={"x-call": name_for("none", "/stream")})
    assert rest.text.split("\n\n")[:-1] == [*(f"data: token{n}" for n in range(len(lines), TOKENS)), "data: [DONE]"]


def test_a_stream_may_stall(client: httpx.Client) -> None:
    """After some tokens nothing comes any more."""
    lines: list[str] = []
    headers = {"x-call": name_for("stall", "/stream")}
    with client.stream("GET", "/stream", headers=headers, timeout=0.2) as response, pytest.raises(httpx.ReadTimeout):
        lines.extend(response.iter_lines())
    assert lines[0] == "data: token0"


def test_a_retry_is_seen_as_one(client: httpx.Client) -> None:
    """The same call arriving again draws its next fate; a new run begins at the first."""
    name = next(
        n
        for n in map(str, range(10_000))
        if [draw(1, "/chat", n, a, stream=False, down=False).kind for a in (1, 2)] == ["error", "none"]
    )
    assert [get(client, "/chat", name).status_code for _ in range(2)] == [500, 200]


def test_a_run_begins_anew(server: Server, client: httpx.Client) -> None:
    """begin() forgets arrivals and counts, so that the second run meets what the first did."""
    for _ in range(2):
        server.begin()
        assert get(client, "/chat", name_for("error")).status_code == 500
        assert server.requests == {"/chat": 1}


def test_an_outage_spares_only_the_backup(server: Server, client: httpx.Client) -> None:
    """While it is down every call fails and is counted; the backup is another machine, so to speak."""
    server.begin(ALWAYS)
    assert server.down
    for number in range(5):
        try:
            assert get(client, "/chat", f"call-{number}").status_code == 503
        except httpx.TransportError:
            pass
    assert get(client, "/backup", "x").status_code == 200
    assert server.during_outage == {"/chat": 5, "/backup": 1}


def test_unknown_paths_and_methods_are_refused(client: httpx.Client) -> None:
    """It is a server, if a bad one."""
    assert client.get("/nowhere").status_code == 404
    assert client.post("/chat").status_code == 400


def test_nonsense_does_not_stop_it(server: Server, client: httpx.Client) -> None:
    """Bytes that are no request, and far too many of them, cost that connection only."""
    host, port = server.url.removeprefix("http://").split(":")
    for nonsense in (b"\x00\xff\r\n\r\n", b"x" * 100_000):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(nonsense)
    assert get(client, "/chat", name_for("none")).status_code == 200


def test_it_stops_with_calls_in_flight() -> None:
    """Leaving the block ends the server whatever its clients wait for, and its port is free."""
    with Server(seed=1) as other:
        host, port = other.url.removeprefix("http://").split(":")
        hanging = socket.create_connection((host, int(port)))
        hanging.sendall(f"GET /chat HTTP/1.1\r\nx-call: {name_for('slow')}\r\n\r\n".encode())
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))
    hanging.close()


# -------------------------------------------------------------------------------------------------------------- traffic


def test_the_schedule_is_the_same_for_the_same_seed() -> None:
    """Both runs send the same calls at the same times."""
    assert schedule(1, 5) == schedule(1, 5)
    assert schedule(1, 5) != schedule(2, 5)


def test_the_schedule_holds_all_kinds_with_names_of_their_own() -> None:
    """Every kind of traffic occurs, in order of time, within the run, and no two calls share a name."""
    arrivals = schedule(1, 5)
    assert {arrival.kind for arrival in arrivals} == set(KINDS) == set(PATHS)
    assert len({arrival.name for arrival in arrivals}) == len(arrivals)
    assert [arrival.at for arrival in arrivals] == sorted(arrival.at for arrival in arrivals)
    assert all(0 <= arrival.at < 5 for arrival in arrivals)


def test_healthy_server_has_no_faults() -> None:
    """A fault-free server answers what would otherwise fail."""
    with Server(seed=1, faults=False) as server, httpx.Client(base_url=server.url, trust_env=False) as client:
        assert get(client, "/chat", name_for("error")).status_code == 200
    assert HEALTHY.kind == "none"
