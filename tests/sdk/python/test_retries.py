"""Retries by the SDK or by Weir, never multiplied."""

import io
import time

import openai
import processes
import pytest

from conftest import QUICK_DRAIN, counting_client

MESSAGES = [{"role": "user", "content": "Say three words about rivers."}]


def chat(client, simulate, job=None):
    headers = {"x-simulate": simulate} | ({"x-job-id": job} if job else {})
    return client.chat.completions.with_raw_response.create(
        model="gpt-4o-mini", messages=MESSAGES, extra_headers=headers
    )


def test_direct_the_sdk_tries_three_times(simulator):
    with counting_client(f"{simulator}/v1", timeout=30) as (client, sent):
        with pytest.raises(openai.InternalServerError):
            chat(client, "status=500")
    assert len(sent) == 3
    assert [request.headers["x-stainless-retry-count"] for request in sent] == ["0", "1", "2"]


def test_what_weir_gave_up_on_the_sdk_does_not_try_again(fresh_weir):
    with counting_client(f"{fresh_weir.url}/v1", timeout=30) as (client, sent):
        with pytest.raises(openai.InternalServerError) as caught:
            chat(client, "status=500")
    assert len(sent) == 1
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert int(caught.value.response.headers["x-weir-attempts"]) > 1
    assert fresh_weir.metric("weir_requests_total") == 1
    assert fresh_weir.metric("weir_sdk_retries_seen_total") == 0


def test_what_weir_can_mend_the_sdk_never_sees(fresh_weir):
    with counting_client(f"{fresh_weir.url}/v1", timeout=30) as (client, sent):
        raw = chat(client, "status=500; times=2", job="mended")
    assert len(sent) == 1
    assert raw.headers["x-weir-attempts"] == "3"
    assert raw.parse().choices
    assert fresh_weir.metric("weir_retries_total", reason="internal_server_error") == 2


def test_what_weir_leaves_alone_the_sdk_tries_as_ever(fresh_weir):
    """An upload may have been done: Weir does not repeat it, and does not stop the SDK from doing so."""
    with counting_client(f"{fresh_weir.url}/v1", timeout=30) as (client, sent):
        with pytest.raises(openai.InternalServerError) as caught:
            client.files.create(
                file=("a.txt", io.BytesIO(b"water")), purpose="user_data", extra_headers={"x-simulate": "status=500"}
            )
    assert len(sent) == 3
    assert "x-should-retry" not in caught.value.response.headers
    assert caught.value.response.headers["x-weir-attempts"] == "1"
    assert fresh_weir.metric("weir_sdk_retries_seen_total") == 2


@pytest.mark.parametrize("code", ["insufficient_quota", "organization_spend_limit_exceeded"])
def test_a_spent_quota_is_tried_once(code, simulator, fresh_weir):
    with counting_client(f"{simulator}/v1", timeout=30) as (client, sent):
        with pytest.raises(openai.RateLimitError):
            chat(client, f"error={code}")
    assert len(sent) == 3, "direct, every SDK tries a spent quota again"
    with counting_client(f"{fresh_weir.url}/v1", timeout=30) as (client, sent):
        with pytest.raises(openai.RateLimitError) as caught:
            chat(client, f"error={code}")
    assert len(sent) == 1
    assert caught.value.code == code
    assert fresh_weir.metric("weir_attempts_total") == 1
    assert fresh_weir.metric("weir_quota_breaker_open") == 1


def raises_soon(client, simulate):
    """The exception of a call that a limit of hours refuses, and the seconds until it was raised."""
    began = time.monotonic()
    with pytest.raises(openai.RateLimitError) as caught:
        chat(client, simulate)
    return caught.value, time.monotonic() - began


def test_a_limit_of_hours_is_told_at_once_and_once(simulator, fresh_weir):
    """Direct, the SDK raises soon; through Weir it must not take longer, nor try again."""
    hours = "error=rate_limit_requests; retry-after=53216"
    with counting_client(f"{simulator}/v1", timeout=20) as (client, _sent):
        _, direct = raises_soon(client, hours)
    for _ in range(3):
        with counting_client(f"{fresh_weir.url}/v1", timeout=20) as (client, sent):
            error, through = raises_soon(client, hours)
        assert len(sent) == 1
        assert through < max(direct, 2), (direct, through)
        assert error.response.headers["x-should-retry"] == "false"
        assert int(error.response.headers["retry-after"]) > 53_000
    assert fresh_weir.metric("weir_attempts_total") == 1, "later ones are told from memory"


def test_a_limit_of_hours_that_only_the_body_names_is_told_at_once():
    """As OpenRouter words it: an epoch in the error's metadata."""
    with processes.simulator("--dialect", "openrouter", "--rpd", "1", "--rpm", "none") as url:
        with processes.weir(url, environment=QUICK_DRAIN) as running:
            with counting_client(f"{running.url}/v1", timeout=20) as (client, sent):
                assert chat(client, "chunks=1").parse().choices
                error, took = raises_soon(client, "chunks=1")
            assert len(sent) == 2
            assert took < 2
            assert "free-models-per" in error.message
            assert error.response.headers["x-should-retry"] == "false"


def test_a_request_that_can_never_pass_is_tried_once(fresh_weir):
    with counting_client(f"{fresh_weir.url}/v1", timeout=30) as (client, sent):
        with pytest.raises(openai.RateLimitError) as caught:
            chat(client, "error=request_too_large")
    assert len(sent) == 1
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_a_refused_key_is_tried_once(fresh_weir):
    with counting_client(f"{fresh_weir.url}/v1", timeout=30) as (client, sent):
        with pytest.raises(openai.AuthenticationError):
            chat(client, "error=invalid_api_key")
    assert len(sent) == 1
    assert fresh_weir.metric("weir_attempts_total") == 1


def test_a_conflict_is_left_to_the_sdk(fresh_weir):
    with counting_client(f"{fresh_weir.url}/v1", timeout=30) as (client, sent):
        with pytest.raises(openai.ConflictError):
            chat(client, "status=409")
    assert len(sent) == 3
