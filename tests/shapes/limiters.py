"""Simulated limiters, and the ways in which they are reported.

A limiter admits a request at a time in seconds, or returns how long it refuses. It has its rate, and the ideal time for
a number of requests.
"""

import dataclasses
import math
import random
from collections import deque


@dataclasses.dataclass
class Told:
    """What a limiter could say of itself after a request."""

    taken: bool
    limit: float
    left: float
    # Until the limit is free again, or a refused request would pass.
    reset: float
    window: float


class Limiter:
    """A number of requests in a time; `limit / window` is its rate."""

    def __init__(self, limit: float, window: float) -> None:
        self.limit, self.window = limit, window

    def take(self, now: float) -> Told:
        raise NotImplementedError

    def ended(self) -> None:
        """An answer to a request that was taken has ended."""

    def told(self, taken: bool, left: float, reset: float) -> Told:
        return Told(taken, self.limit, max(left, 0), max(reset, 0), self.window)

    def ideal(self, count: int, begin: float, latency: float) -> float:
        """Seconds until the last of `count` requests is answered, were each sent as soon as it would be taken."""
        step = min(self.window / 500, 0.02)
        tick, taken = 0, 0
        while taken < count:
            while taken < count and self.take(begin + tick * step).taken:
                taken += 1
            tick += 1
        return (tick - 1) * step + latency

    @property
    def rate(self) -> float:
        return self.limit / self.window


class Window(Limiter):
    """Windows of the clock, or each from its first request on."""

    def __init__(self, limit: float, window: float, first: bool = False) -> None:
        super().__init__(limit, window)
        self.first, self.begin, self.used = first, -math.inf, 0

    def take(self, now: float) -> Told:
        if now >= self.begin + self.window:
            self.begin, self.used = (now if self.first else now // self.window * self.window), 0
        taken = self.used < self.limit
        self.used += taken
        return self.told(taken, self.limit - self.used, self.begin + self.window - now)


class Log(Limiter):
    """Any span as long as the window."""

    def __init__(self, limit: float, window: float) -> None:
        super().__init__(limit, window)
        self.log = deque()

    def take(self, now: float) -> Told:
        while self.log and now - self.log[0] >= self.window:
            self.log.popleft()
        taken = len(self.log) < self.limit
        if taken:
            self.log.append(now)
        return self.told(taken, self.limit - len(self.log), self.log[0] + self.window - now)


class Counter(Limiter):
    """A window of the clock, and the part of the one before that the span still covers."""

    def __init__(self, limit: float, window: float) -> None:
        super().__init__(limit, window)
        self.index, self.used, self.before = 0, 0, 0

    def take(self, now: float) -> Told:
        index = now // self.window
        if index != self.index:
            self.before = self.used if index == self.index + 1 else 0
            self.index, self.used = index, 0
        left = (index + 1) * self.window - now
        weighted = self.before * left / self.window
        taken = self.used + weighted + 1 <= self.limit
        self.used += taken
        return self.told(taken, self.limit - self.used - weighted, left)


class Bucket(Limiter):
    """Tokens that come back at the rate, up to a depth. `steady` is a GCRA, which tells no more than the next time."""

    def __init__(self, limit: float, window: float, depth: float | None = None) -> None:
        super().__init__(limit, window)
        self.depth, self.level, self.at = depth or limit, 0.0, 0.0

    def take(self, now: float) -> Told:
        self.level = max(self.level - (now - self.at) * self.rate, 0)
        self.at = now
        taken = self.level + 1 <= self.depth + 1e-9
        self.level += taken
        reset = self.level / self.rate if taken else (self.level + 1 - self.depth) / self.rate
        return Told(taken, self.depth, max(self.depth - self.level, 0), reset, self.depth / self.rate)


class AtOnce(Limiter):
    """A number of requests at once; each takes `seconds`."""

    def __init__(self, limit: float, seconds: float) -> None:
        super().__init__(limit, seconds)
        self.flying = 0

    def take(self, now: float) -> Told:
        taken = self.flying < self.limit
        self.flying += taken
        return self.told(taken, self.limit - self.flying, 1)

    def ended(self) -> None:
        self.flying -= 1

    def ideal(self, count: int, begin: float, latency: float) -> float:
        return math.ceil(count / self.limit) * latency


class Penalty(Limiter):
    """A window that is shut for a time after a refusal; `extends`: each request while it is shut shuts it anew."""

    def __init__(self, limit: float, window: float, shut: float, extends: bool) -> None:
        super().__init__(limit, window)
        self.inner, self.shut, self.extends, self.until = Log(limit, window), shut, extends, -math.inf

    def take(self, now: float) -> Told:
        if now < self.until:
            if self.extends:
                self.until = now + self.shut
            return self.told(False, 0, self.until - now)
        told = self.inner.take(now)
        if not told.taken:
            self.until = now + self.shut
            told.reset = self.shut
        return told

    def ideal(self, count: int, begin: float, latency: float) -> float:
        return Log(self.limit, self.window).ideal(count, begin, latency)


class Random(Limiter):
    """No limit; a part of all requests is refused. `limit / window` is what a steady client asks for."""

    def __init__(self, limit: float, window: float, part: float) -> None:
        super().__init__(limit, window)
        self.part, self.random = part, random.Random(5)

    def take(self, now: float) -> Told:
        return self.told(self.random.random() >= self.part, self.limit, 1)

    def ideal(self, count: int, begin: float, latency: float) -> float:
        return count / self.rate


# A name, what makes it, and the requests of a burst, which take some ten to twenty seconds.
LIMITERS = {
    "window 10/1s": (lambda: Window(10, 1), 150),
    "window 10/1s first": (lambda: Window(10, 1, first=True), 150),
    "window 50/10s": (lambda: Window(50, 10), 150),
    "window 50/10s first": (lambda: Window(50, 10, first=True), 150),
    "log 10/1s": (lambda: Log(10, 1), 150),
    "log 50/10s": (lambda: Log(50, 10), 150),
    "counter 10/1s": (lambda: Counter(10, 1), 150),
    "counter 50/10s": (lambda: Counter(50, 10), 150),
    "bucket 10/1s": (lambda: Bucket(10, 1), 150),
    "bucket 60/20s": (lambda: Bucket(60, 20), 120),
    "gcra 2/s, 3 deep": (lambda: Bucket(2, 1, depth=3), 40),
    "gcra 2/s, 1 deep": (lambda: Bucket(2, 1, depth=1), 40),
    "4 at once": (lambda: AtOnce(4, 0.5), 80),
    "20 at once": (lambda: AtOnce(20, 0.5), 400),
    "penalty of 5 s": (lambda: Penalty(10, 1, shut=5, extends=False), 150),
    "penalty that extends": (lambda: Penalty(10, 1, shut=2, extends=True), 150),
    "random 5 %": (lambda: Random(20, 1, 0.05), 200),
}

PAGE = "<html><head><title>503 Service Temporarily Unavailable</title></head><body><center>nginx</center></body></html>"


def error(message: str, code: str | None = "rate_limit_exceeded") -> str:
    code = "null" if code is None else f'"{code}"'
    return '{"error":{"message":"%s","type":"requests","param":null,"code":%s}}' % (message, code)


def seconds(value: float) -> str:
    return f"{value * 1000:.0f}ms" if value < 1 else f"{value:.3f}s"


def openai(told: Told) -> dict[str, str]:
    return noreset(told) | {"x-ratelimit-reset-requests": seconds(told.reset)}


def noreset(told: Told) -> dict[str, str]:
    return remaining(told) | {"x-ratelimit-limit-requests": f"{told.limit:.0f}"}


def remaining(told: Told) -> dict[str, str]:
    return {"x-ratelimit-remaining-requests": f"{math.floor(told.left)}"}


def ietf(told: Told) -> dict[str, str]:
    reset = math.ceil(told.reset)
    return {
        "ratelimit-policy": f'"default";q={told.limit:.0f};w={max(told.window, 1):.0f}',
        "ratelimit": f'"default";r={math.floor(told.left)};t={reset}',
    }


# How the simulator reports: the headers of each answer, and of a refusal the status, further headers and the body.
TELLS = {
    "nothing": (lambda told: {}, 429, lambda told: {}, error("Too many requests", None)),
    "retry-after": (
        lambda told: {}, 429, lambda told: {"retry-after": f"{max(math.ceil(told.reset), 1)}"}, error("Too many requests"),
    ),
    "headers": (openai, 429, lambda told: {}, error("Rate limit reached")),
    "no reset": (noreset, 429, lambda told: {}, error("Rate limit reached")),
    "ietf": (ietf, 429, lambda told: {}, error("Too many requests", None)),
    "remaining": (remaining, 429, lambda told: {}, error("Too many requests", None)),
    "per min": (
        lambda told: {}, 429, lambda told: {}, error("Rate limit reached for m on requests per min (RPM): Limit %d"),
    ),
    "503 page": (lambda told: {}, 503, lambda told: {"content-type": "text/html"}, PAGE),
    "500": (lambda told: {}, 500, lambda told: {}, error("Internal server error", None)),
}
