"""Common calls with the SDK, direct and through Weir."""

import asyncio
import io
import math

import openai
import pytest

from conftest import KEY

MODEL = "gpt-4o-mini"
MESSAGES = [{"role": "user", "content": "Say three words about rivers."}]


def test_models(client):
    models = [model.id for model in client.models.list()]
    assert models
    assert client.models.retrieve(models[0]).id == models[0]


def test_chat(client):
    completion = client.chat.completions.create(model=MODEL, messages=MESSAGES)
    assert completion.choices[0].message.content
    assert completion.choices[0].finish_reason == "stop"
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens > 0


def test_chat_stream(client):
    chunks = list(client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_chat_stream_with_usage(client):
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens > 0


def test_chat_stream_helper(client):
    with client.chat.completions.stream(model=MODEL, messages=MESSAGES) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content


def test_a_stream_that_is_left_early(client):
    stream = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, extra_headers={"x-simulate": "chunks=50; chunk-delay=50ms"}
    )
    next(iter(stream))
    stream.close()
    assert client.models.list().data


def test_completions(client):
    assert client.completions.create(model="gpt-3.5-turbo-instruct", prompt="A river").choices[0].text


def test_embeddings_default_encoding(client):
    """The SDK asks for base64 and decodes it."""
    answer = client.embeddings.create(model="text-embedding-3-small", input=["one", "two"])
    assert [item.index for item in answer.data] == [0, 1]
    assert all(isinstance(number, float) and math.isfinite(number) for number in answer.data[0].embedding)


def test_embeddings_float(client):
    answer = client.embeddings.create(model="text-embedding-3-small", input="one", encoding_format="float")
    assert all(isinstance(number, float) for number in answer.data[0].embedding)


def test_embeddings_base64(client):
    answer = client.embeddings.create(model="text-embedding-3-small", input="one", encoding_format="base64")
    assert isinstance(answer.data[0].embedding, str)


def test_embeddings_of_tokens(client):
    answer = client.embeddings.create(model="text-embedding-3-small", input=[[1, 2, 3], [4, 5]])
    assert len(answer.data) == 2


def test_responses(client):
    created = client.responses.create(model=MODEL, input="Say three words about rivers.")
    assert created.status == "completed"
    assert created.output_text
    assert client.responses.retrieve(created.id).id == created.id
    client.responses.delete(created.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(created.id)


def test_responses_stream(client):
    events = list(client.responses.create(model=MODEL, input="Say three words.", stream=True, store=False))
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert events[-1].response.usage.total_tokens > 0
    assert any(event.type == "response.output_text.delta" for event in events)


def test_files(client):
    content = bytes(range(256)) * 4096
    uploaded = client.files.create(file=("rivers.bin", io.BytesIO(content)), purpose="user_data")
    assert uploaded.bytes == len(content)
    assert uploaded.id in [file.id for file in client.files.list()]
    assert client.files.content(uploaded.id).read() == content
    assert client.files.delete(uploaded.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(uploaded.id)


def test_a_download_that_is_streamed(client):
    uploaded = client.files.create(file=("rivers.txt", b"water " * 100_000), purpose="user_data")
    with client.files.with_streaming_response.content(uploaded.id) as response:
        assert sum(len(chunk) for chunk in response.iter_bytes()) == 600_000


def test_speech(client):
    audio = client.audio.speech.create(model="gpt-4o-mini-tts", voice="alloy", input="Water.").read()
    assert len(audio) > 0


def test_transcription(client):
    answer = client.audio.transcriptions.create(model="whisper-1", file=("water.wav", b"RIFF" + bytes(4000)))
    assert answer.text


def test_moderations(client):
    assert client.moderations.create(model="omni-moderation-latest", input="Water.").results


def test_raw_responses_have_the_headers(client, base_url, weir):
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES)
    assert raw.status_code == 200
    assert raw.headers["x-request-id"]
    assert int(raw.headers["x-ratelimit-limit-requests"]) > 0
    assert raw.parse().choices
    if base_url.startswith(weir.url):
        assert raw.headers["x-weir-attempts"] == "1"
        assert int(raw.headers["x-weir-queue-ms"]) >= 0


def test_async(base_url):
    async def run():
        async with openai.AsyncOpenAI(base_url=base_url, api_key=KEY, max_retries=0, timeout=20) as client:
            completions = await asyncio.gather(
                *(client.chat.completions.create(model=MODEL, messages=MESSAGES) for _ in range(10))
            )
            assert all(completion.choices[0].message.content for completion in completions)
            stream = await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
            assert [chunk async for chunk in stream]
            response = await client.responses.create(model=MODEL, input="Say three words.", store=False)
            assert response.output_text
            uploaded = await client.files.create(file=("a.txt", b"water"), purpose="user_data")
            assert (await client.files.content(uploaded.id)).read() == b"water"

    asyncio.run(run())


def test_an_unknown_endpoint_passes(client):
    """What the simulator does not know it answers with 404: through Weir too, in the same words."""
    with pytest.raises(openai.NotFoundError) as caught:
        client.post("/no/such/thing", cast_to=object, body={"a": 1})
    assert caught.value.type == "invalid_request_error"
