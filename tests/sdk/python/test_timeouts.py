"""The caller's own timeout is the deadline, and a caller is never worse off than direct."""

import time

import openai
import pytest

from conftest import KEY

MESSAGES = [{"role": "user", "content": "Say three words about rivers."}]


def client_of(url, timeout):
    return openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=timeout)


def chat(client, simulate):
    return client.chat.completions.create(
        model="gpt-4o-mini", messages=MESSAGES, extra_headers={"x-simulate": simulate}
    )


def test_direct_a_silent_upstream_is_a_timeout(simulator):
    with client_of(simulator, 2) as client, pytest.raises(openai.APITimeoutError):
        chat(client, "fault=stall-head")


def test_the_caller_gives_up_as_it_would_direct(fresh_weir):
    """Weir never ends an attempt before the SDK would: the SDK's own time-out is what the program sees."""
    began = time.monotonic()
    with client_of(fresh_weir.url, 2) as client, pytest.raises(openai.APITimeoutError):
        chat(client, "fault=stall-head")
    assert 2 <= time.monotonic() - began < 4


def test_a_slow_answer_within_the_timeout_arrives(fresh_weir):
    with client_of(fresh_weir.url, 5) as client:
        assert chat(client, "after=2s").choices


@pytest.mark.parametrize("timeout", [0.9, 1.0])
def test_a_short_timeout_is_served(timeout, fresh_weir):
    """The margin that Weir keeps for itself must not eat up a short timeout."""
    with client_of(fresh_weir.url, timeout) as client:
        assert chat(client, "after=50ms").choices


def test_a_stream_may_last_longer_than_the_timeout(fresh_weir):
    """The timeout is between bytes: it ends with the head as far as Weir is concerned."""
    with client_of(fresh_weir.url, 2) as client:
        chunks = list(
            client.chat.completions.create(
                model="gpt-4o-mini",
                messages=MESSAGES,
                stream=True,
                extra_headers={"x-simulate": "chunks=40; chunk-delay=100ms"},
            )
        )
    assert len(chunks) >= 40
