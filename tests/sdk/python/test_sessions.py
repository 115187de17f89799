"""Sessions over WebSocket with the SDK: turns, errors in events, and drains."""

import asyncio
import urllib.request

import openai
import processes
import pytest
from conftest import KEY, UNLIMITED

CREATE = {"type": "response.create", "model": "gpt-4o", "store": False, "input": "Say three words about rivers."}


def of_lane(lane, **more):
    return {**CREATE, "stream_id": lane, **more}


def next_of(connection, *kinds):
    while True:
        event = connection.recv()
        if event.type in kinds:
            return event


def test_turns_on_several_lanes(client):
    with client.responses.connect() as connection:
        connection.send(CREATE)
        assert next_of(connection, "response.completed").stream_id is None
        for lane in ("planner", "critic"):
            connection.send(of_lane(lane))
        done = [next_of(connection, "response.completed", "error") for _ in range(2)]
        assert {event.stream_id for event in done} == {"planner", "critic"}
        parent = done[0]
        assert parent.response.usage.output_tokens > 0
        connection.send(of_lane(parent.stream_id, previous_response_id=parent.response.id))
        assert next_of(connection, "response.completed", "error").type == "response.completed"


def test_errors_are_events(client):
    with client.responses.connect() as connection:
        connection.send(of_lane("a", previous_response_id="resp_of_nobody"))
        event = next_of(connection, "response.completed", "error")
        assert (event.status, event.stream_id, event.error.code) == (400, "a", "previous_response_not_found")
        # The session goes on.
        connection.send(of_lane("a"))
        assert next_of(connection, "response.completed", "error").type == "response.completed"


def test_a_bad_key_is_refused_in_the_handshake(base_url):
    with openai.OpenAI(base_url=base_url, api_key="sk-invalid-0123456789", max_retries=0) as client:
        with pytest.raises(Exception, match="401"), client.responses.connect():
            pass


def test_an_overload_is_mended_without_the_clients_help(simulator, fresh_weir):
    metadata = {"x-simulate": "error=server_is_overloaded; times=2", "x-job-id": "session-overload"}
    with openai.OpenAI(base_url=f"{fresh_weir.url}/v1", api_key=KEY, max_retries=0) as client:
        with client.responses.connect() as connection:
            connection.send(of_lane("a", metadata=metadata))
            assert next_of(connection, "response.completed", "error").type == "response.completed"
    assert fresh_weir.metric("weir_attempt_errors_total", **{"class": "overloaded"}) == 2


def test_a_drain_ends_a_session_so_that_the_sdk_connects_again():
    """A turn under way ends well; then comes close code 1012, on which the SDK goes to another replica."""

    async def session(one, other):
        codes = []

        def reconnecting(event):
            codes.append(event.close_code)
            client.base_url = client.websocket_base_url = f"{other.url.replace('http', 'ws')}/v1"

        client = openai.AsyncOpenAI(base_url=f"{one.url}/v1", api_key=KEY)
        async with client.responses.connect(on_reconnecting=reconnecting) as connection:
            await connection.send(of_lane("a", metadata={"x-simulate": "chunks=10; after=1s"}))
            await asyncio.sleep(0.3)
            drain = urllib.request.Request(f"{one.admin}/drain", method="POST")
            await asyncio.to_thread(lambda: urllib.request.urlopen(drain, timeout=5).close())
            told = []
            # The loop goes on over the new connection.
            async for event in connection:
                told.append(event)
                if event.type == "response.completed" and event.stream_id == "a":
                    asking = asyncio.ensure_future(ask_again(connection, codes))
                if event.stream_id == "b":
                    await asking
                    return told, codes

    async def ask_again(connection, codes):
        while not codes:
            await asyncio.sleep(0.05)
        await asyncio.sleep(1)
        await connection.send(of_lane("b"))

    with processes.simulator(*UNLIMITED) as upstream:
        patient = {"WEIR_SHUTDOWN__DRAIN_DELAY": "0s", "WEIR_SHUTDOWN__DRAIN_TIMEOUT": "20s"}
        with processes.weir(upstream, environment=patient) as one, processes.weir(upstream, environment=patient) as other:
            told, codes = asyncio.run(asyncio.wait_for(session(one, other), 30))
            assert codes[0] == 1012
            assert [event.type for event in told[-2:]] == ["response.completed", "response.created"]
            assert other.metric("weir_requests_total", endpoint="responses", outcome="success") >= 1
