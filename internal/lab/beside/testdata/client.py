"""What daemons do with Python's websockets, option by option, with the server at the address
that is given. Each line of the output says what came of one; nothing is judged here."""

import asyncio
import inspect
import json
import sys

import websockets

address = sys.argv[1]
parameters = inspect.signature(websockets.connect.__init__).parameters
HEADERS = "additional_headers" if "additional_headers" in parameters else "extra_headers"


def message(identifier="1"):
    return json.dumps({"type": "heartbeat", "id": identifier, "timestamp": "2026-11-22T10:00:00Z", "payload": {}})


async def pieces():
    text = message()
    for begin in range(0, len(text), 10):
        yield text[begin:begin + 10]


async def say(socket):
    await socket.send(message())
    return [type(await socket.recv()).__name__]


async def fragments(socket):
    await socket.send(pieces())
    return [type(await socket.recv()).__name__]


async def binary(socket):
    await socket.send(message().encode())
    return [type(await socket.recv()).__name__]


async def pings(socket):
    seen = []
    for data in ("", "hello", "p" * 125, b"\x00\xff"):
        await (await socket.ping(data))
        seen.append(f"pong {len(data)}")
    await socket.pong("nobody asked")
    return seen + await say(socket)


async def many(socket):
    for _ in range(50):
        await socket.send(message())
    return [type(await socket.recv()).__name__ for _ in range(50)]


def closing(code, reason=""):
    async def use(socket):
        await socket.close(code, reason)
        return []
    return use


async def largest(socket):
    await socket.send(message().ljust(64 * 1024))
    return [type(await socket.recv()).__name__]


async def too_large(socket):
    await socket.send(message().ljust(64 * 1024 + 1))
    seen = []
    try:
        while True:
            seen.append(type(await socket.recv()).__name__)
    except websockets.exceptions.ConnectionClosed as closed:
        return [closed.rcvd.code if closed.rcvd else None]


SCENARIOS = {
    "no options": ({}, say),
    "no compression": ({"compression": None}, say),
    "compression offered": ({"compression": "deflate"}, say),
    "one subprotocol": ({"subprotocols": ["neolith.v1"]}, say),
    "two subprotocols": ({"subprotocols": ["b", "a"]}, say),
    "an origin": ({"origin": "https://neolith.example"}, say),
    "headers of its own": ({HEADERS: {"Authorization": "Bearer x", "X-Daemon": "y"}}, say),
    "no keep-alive pings": ({"ping_interval": None}, say),
    "fragments": ({}, fragments),
    "a binary message": ({}, binary),
    "pings with data": ({}, pings),
    "many messages at once": ({}, many),
    "the largest message": ({}, largest),
    "one byte more": ({}, too_large),
    "closed with 1000": ({}, closing(1000)),
    "closed with 1001 and a reason": ({}, closing(1001, "going home – ü")),
    "closed with a code of its own": ({}, closing(4321, "mine")),
}


async def run(name, options, use):
    line = {"name": name}
    try:
        async with websockets.connect(address, open_timeout=300, close_timeout=300, **options) as socket:
            line["subprotocol"] = socket.subprotocol
            line["seen"] = await use(socket)
            await socket.close()
            await socket.wait_closed()
            line["close"] = [socket.close_code, socket.close_reason]
    except websockets.exceptions.ConnectionClosed as closed:
        line["closed"] = closed.rcvd.code if closed.rcvd else None
    except Exception as failure:  # what is said differs between versions
        line["failure"] = type(failure).__name__
    print(json.dumps(line), flush=True)


async def main():
    for name, (options, use) in SCENARIOS.items():
        await run(name, options, use)


asyncio.run(main())
