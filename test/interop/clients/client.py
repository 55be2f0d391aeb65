"""A visit by httpx: see visit.ts. It has no trailers, neither way."""
import asyncio
import json
import sys
from collections import Counter

import httpx


async def main() -> None:
    origin, protocol = sys.argv[1], sys.argv[2]
    requests, at_a_time, size = (int(argument) for argument in sys.argv[3:6])
    protocols: Counter = Counter()
    failures = []
    is_h2 = protocol == "h2"
    async with httpx.AsyncClient(http1=not is_h2, http2=is_h2, verify=False, timeout=30) as client:

        async def fetch(method: str, path: str, **arguments) -> bytes:
            try:
                response = await client.request(method, origin + path, **arguments)
            except Exception as error:  # whatever it is, the test is to see it
                failures.append(f"{path}: {error!r}")
                return b""
            protocols[response.http_version] += 1
            return response.content

        hello = (await fetch("GET", "/hello/first")).decode()
        upload = bytes(i * 7 % 256 for i in range(size))
        echo = await fetch("POST", "/echo", content=upload)
        numbers = iter(range(requests))
        answered = 0

        async def work() -> None:
            nonlocal answered
            for number in numbers:
                if await fetch("GET", f"/hello/{number}") == f"hello {number}".encode():
                    answered += 1

        await asyncio.gather(*(work() for _ in range(at_a_time)))
    echoed = len(echo) if echo == upload else 0
    print(json.dumps({
        "protocols": protocols, "hello": hello, "echoed": echoed,
        "answered": answered, "trailer": None, "failures": failures,
    }))


asyncio.run(main())
