"""A simulator and a Weir for all tests, and clients that differ in nothing but the base URL."""

import contextlib
import pathlib
import sys

import openai
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "outside"))

import processes  # noqa: E402

# High enough that no test waits for a limit; limits have suites of their own.
UNLIMITED = ("--rpm", "1000000", "--tpm", "1000000000")
# A drain waits for nobody here: each test ends what it began.
QUICK_DRAIN = {"WEIR_SHUTDOWN__DRAIN_DELAY": "0s", "WEIR_SHUTDOWN__DRAIN_TIMEOUT": "1s"}
KEY = "sk-test-0123456789abcdef"


@pytest.fixture(scope="session")
def simulator():
    """The base URL of the simulator, without /v1."""
    with processes.simulator(*UNLIMITED) as url:
        yield url


@pytest.fixture(scope="session")
def weir(simulator):
    """A Weir that all well-behaved tests share."""
    with processes.weir(simulator, environment=QUICK_DRAIN) as running:
        yield running


@pytest.fixture
def fresh_weir(simulator):
    """A Weir for one test: breakers, budgets and limits that it learns die with it."""
    with processes.weir(simulator, environment=QUICK_DRAIN) as running:
        yield running


@pytest.fixture(params=["direct", "weir"])
def base_url(request, simulator):
    """Every test that uses this runs twice: against the simulator, and through Weir."""
    if request.param == "direct":
        return f"{simulator}/v1"
    return f"{request.getfixturevalue('weir').url}/v1"


@pytest.fixture
def client(base_url):
    """A client that makes no retries of its own."""
    with openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


@contextlib.contextmanager
def counting_client(base_url, **options):
    """A client, and the list of the requests that it sent."""
    sent = []
    with openai.DefaultHttpxClient(event_hooks={"request": [sent.append]}) as http_client:
        yield openai.OpenAI(base_url=base_url, api_key=KEY, http_client=http_client, **options), sent
