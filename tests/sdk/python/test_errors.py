"""Every error of the simulator raises the same through Weir as it does direct: class, status, code, type, message."""

import dataclasses

import openai
import pytest

from conftest import KEY

MESSAGES = [{"role": "user", "content": "Say three words about rivers."}]


@dataclasses.dataclass(frozen=True)
class Row:
    """An error of the simulator, and what Weir calls it (`...` where the documentation leaves it open)."""

    name: str
    weir_class: object
    endpoint: str = "chat"


ROWS = [
    Row("invalid_value", "bad_request"),
    Row("unknown_parameter", "bad_request"),
    Row("context_length_exceeded", "context_length_exceeded"),
    Row("conversation_locked", "conversation_locked", "responses"),
    Row("model_not_found_400", "model_not_found", "responses"),
    Row("invalid_api_key", "authentication_incorrect_key"),
    Row("invalid_authentication", "authentication_invalid"),
    Row("missing_key", ...),
    Row("no_organization", "authentication_no_organization"),
    Row("mismatched_organization", "authentication_no_organization"),
    Row("ip_not_authorized", "authentication_ip_denied"),
    Row("missing_scope", "authentication_missing_scope"),
    Row("model_access_denied", "model_not_found"),
    Row("permission_denied", "permission_denied"),
    Row("unsupported_country_region_territory", "region_unsupported"),
    Row("not_found", "not_found"),
    Row("model_not_found", "model_not_found"),
    Row("unknown_url", "not_found"),
    Row("method_not_supported", "other_client_error"),
    Row("request_timeout", "request_timeout"),
    Row("conflict", "conflict"),
    Row("payload_too_large", "payload_too_large"),
    Row("unprocessable", "unprocessable"),
    Row("rate_limit_requests", "rate_limit_requests"),
    Row("rate_limit_tokens", "rate_limit_tokens"),
    Row("rate_limit_plain", ...),
    Row("request_too_large", "request_exceeds_limit"),
    Row("insufficient_quota", "quota_insufficient"),
    Row("billing_not_active", "quota_billing_inactive"),
    Row("credit_balance_exhausted", "quota_credit"),
    Row("organization_spend_limit_exceeded", "quota_organization_spend"),
    Row("project_spend_limit_exceeded", "quota_project_spend"),
    Row("organization_usage_limit_exceeded", "quota_usage_limit"),
    Row("slow_down", "slow_down"),
    Row("resource_unavailable", "resource_unavailable"),
    Row("engine_overloaded_error", "overloaded"),
    Row("server_error", "internal_server_error"),
    Row("html-502", "bad_gateway"),
    Row("cf_bad_gateway", "bad_gateway"),
    Row("server_is_overloaded", "overloaded"),
    Row("model_overloaded", "overloaded"),
    Row("slow_down_503", "slow_down"),
    Row("cf_service_unavailable", "bad_gateway"),
    Row("envoy_connect_error", ...),
    Row("no_healthy_upstream", ...),
    Row("html-504", "gateway_timeout"),
    Row("html-520", "bad_gateway"),
    Row("overloaded_error", "overloaded"),
    Row("teapot", "other_client_error"),
    Row("not_implemented", "other_server_error"),
]


def ask(base_url, row):
    # Three seconds are the deadline that the SDK tells Weir: Weir's own retries end within two.
    with openai.OpenAI(base_url=f"{base_url}/v1", api_key=KEY, max_retries=0, timeout=3) as client:
        headers = {"x-simulate": f"error={row.name}"}
        with pytest.raises(openai.APIStatusError) as caught:
            if row.endpoint == "responses":
                client.responses.create(model="gpt-4o-mini", input="Words.", store=False, extra_headers=headers)
            else:
                client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, extra_headers=headers)
        return caught.value


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_same_error(row, simulator, fresh_weir):
    direct = ask(simulator, row)
    through = ask(fresh_weir.url, row)
    assert type(through) is type(direct)
    for attribute in ("status_code", "code", "type", "param", "message", "body"):
        assert getattr(through, attribute) == getattr(direct, attribute), attribute
    assert through.response.headers["content-type"] == direct.response.headers["content-type"]
    if row.weir_class is not ...:
        assert through.response.headers["x-weir-error-class"] == row.weir_class
        assert fresh_weir.metric("weir_errors_total", **{"class": row.weir_class}) == 1


def test_no_answer_becomes_an_answer(simulator, fresh_weir):
    """Where the upstream gave no answer, Weir must give one: 502 in the API's envelope."""
    row = Row("reset", "connection_reset")
    headers = {"x-simulate": "fault=reset-before-head"}
    with openai.OpenAI(base_url=f"{simulator}/v1", api_key=KEY, max_retries=0, timeout=3) as client:
        with pytest.raises(openai.APIConnectionError):
            client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, extra_headers=headers)
    with openai.OpenAI(base_url=f"{fresh_weir.url}/v1", api_key=KEY, max_retries=0, timeout=3) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            client.chat.completions.create(model="gpt-4o-mini", messages=MESSAGES, extra_headers=headers)
    assert caught.value.status_code == 502
    assert caught.value.type == "weir_error"
    assert caught.value.response.headers["x-weir-error-class"] == row.weir_class


def test_an_error_hidden_in_a_stream(simulator, fresh_weir):
    """Direct, the SDK raises in the middle of the loop; Weir tries again, and the caller sees no error."""
    def stream(url, job):
        with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=20) as client:
            headers = {"x-simulate": "fault=hidden:server_is_overloaded; times=1", "x-job-id": job}
            chunks = client.chat.completions.create(
                model="gpt-4o-mini", messages=MESSAGES, stream=True, extra_headers=headers
            )
            return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)

    with pytest.raises(openai.APIError):
        stream(simulator, "hidden-direct")
    assert stream(fresh_weir.url, "hidden-weir")
    assert fresh_weir.metric("weir_attempt_errors_total", **{"class": "overloaded"}) == 1


def test_a_stream_that_breaks_never_ends_cleanly(simulator, fresh_weir):
    headers = {"x-simulate": "fault=reset-mid-body; chunks=20; chunk-delay=20ms"}
    for url in (simulator, fresh_weir.url):
        with openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=20) as client:
            with pytest.raises(openai.APIConnectionError):
                list(
                    client.chat.completions.create(
                        model="gpt-4o-mini", messages=MESSAGES, stream=True, extra_headers=headers
                    )
                )
