"""A daemon written with Python's websockets, which nobody of ours has written.

Reads its parameters as one JSON object from the first line of standard input,
speaks the daemon protocol with an edge, and reports what it sees as JSON lines:
{"scenario": ..., "step": ..., ...}. It judges nothing: the Go test that runs
it does. After each step "publish" it waits for an event.
"""

import asyncio
import json
import sys
import uuid

import websockets

PATIENCE = 600  # seconds, to end what hangs
params = json.loads(sys.stdin.readline())


def report(scenario, step, **fields):
    print(json.dumps({"scenario": scenario, "step": step, **fields}), flush=True)


def message(kind, payload=None, **changes):
    frame = {"type": kind, "id": str(uuid.uuid4()), "timestamp": "2026-11-22T10:00:00.000Z"}
    if payload is not None:
        frame["payload"] = payload
    return {**frame, **changes}


class Daemon:
    """One connection, and the name of the scenario that it belongs to."""

    def __init__(self, scenario, socket):
        self.scenario = scenario
        self.socket = socket

    async def send(self, kind, payload=None, **changes):
        frame = message(kind, payload, **changes)
        await self.socket.send(json.dumps(frame))
        return frame["id"]

    async def receive(self, step, **fields):
        """Reports the next frame, or the close that comes instead of it."""
        try:
            frame = await asyncio.wait_for(self.socket.recv(), PATIENCE)
        except websockets.exceptions.ConnectionClosed as closed:
            received = closed.rcvd
            report(self.scenario, step, close=received.code if received else None,
                   reason=received.reason if received else None, **fields)
            return None
        report(self.scenario, step, text=isinstance(frame, str), message=json.loads(frame), **fields)
        return json.loads(frame)

    async def receive_until_close(self, step):
        while await self.receive(step) is not None:
            pass

    async def authenticate(self, who):
        sent = await self.send("auth", params["daemons"][who])
        return await self.receive("auth", sent=sent)

    async def subscribe(self, *types, **payload):
        await self.send("subscribe", {"eventTypes": list(types), **payload})
        return await self.receive("subscribe")

    async def event(self):
        report(self.scenario, "publish")
        return await self.receive("event")


def connect(scenario, url=None):
    class Connecting:
        async def __aenter__(self):
            self.opening = websockets.connect(url or params["url"], open_timeout=PATIENCE)
            return Daemon(scenario, await self.opening.__aenter__())

        async def __aexit__(self, *failure):
            await self.opening.__aexit__(*failure)

    return Connecting()


async def conversation():
    """The usual life of a connection, with mistakes that do not end it."""
    async with connect("conversation") as daemon:
        sent = await daemon.send("heartbeat", {"status": "active"})
        await daemon.receive("before auth", sent=sent)
        await daemon.authenticate("first")
        await daemon.subscribe("message.*", "vp.mentioned")
        event = await daemon.event()
        await daemon.send("ack", {"eventIds": [event["payload"]["eventId"]]})
        await daemon.send("heartbeat", {"status": "busy", "metrics": {"uptimeSeconds": 1.5, "errors": 0}})
        await daemon.receive("heartbeat")
        await daemon.socket.send("this is not JSON")
        await daemon.receive("not JSON")
        await daemon.socket.send("[1, 2]")
        await daemon.receive("not an object")
        sent = await daemon.send("ack", {"eventIds": "not a list"})
        await daemon.receive("wrong type", sent=sent)
        sent = await daemon.send("dance", {})
        await daemon.receive("unknown type", sent=sent)
        sent = await daemon.send("subscribe", {"eventTypes": ["no good name", "call.*"]})
        await daemon.receive("bad name", sent=sent)
        await daemon.event()  # a call: the good name beside the bad one counts
        sent = await daemon.authenticate("first")
        await daemon.socket.close(1000)
        await daemon.receive("closed")


async def resumption():
    """By the other path: what was acknowledged does not come again, the second event does."""
    async with connect("resumption", params["alias"]) as daemon:
        await daemon.authenticate("first")
        await daemon.subscribe("*")
        event = await daemon.receive("repeat")
        await daemon.send("ack", {"eventIds": [event["payload"]["eventId"]]})
        await daemon.event()


async def refused(who):
    async with connect(who) as daemon:
        await daemon.authenticate(who)
        await daemon.receive_until_close("closed")


async def silence():
    async with connect("silence") as daemon:
        await daemon.receive_until_close("closed")


async def binary():
    async with connect("binary") as daemon:
        await daemon.authenticate("other")
        await daemon.socket.send(b"\x00\x01")
        await daemon.receive_until_close("closed")


async def oversize():
    async with connect("oversize") as daemon:
        await daemon.authenticate("other")
        await daemon.send("heartbeat", {"status": "active", "padding": "x" * params["oversize"]})
        await daemon.receive_until_close("closed")


async def successor():
    """The same daemon again: the newest connection wins."""
    async with connect("successor") as older, connect("successor") as newer:
        await older.authenticate("other")
        await newer.authenticate("other")
        await older.receive_until_close("older closed")
        await newer.send("heartbeat", {"status": "idle"})
        await newer.receive("newer lives")


async def crowd():
    """One connection more than the orchestrator may have."""
    names = ["crowd-%d" % i for i in range(params["limit"] + 1)]
    connections = [connect("crowd") for _ in names]
    daemons = [await c.__aenter__() for c in connections]
    for name, daemon in zip(names, daemons):
        await daemon.authenticate(name)
    await daemons[-1].receive_until_close("closed")
    for c in connections:
        await c.__aexit__(None, None, None)


async def main():
    await conversation()
    await resumption()
    for who in ("forged", "expired", "refresh", "unsigned", "stranger"):
        await refused(who)
    await silence()
    await binary()
    await oversize()
    await successor()
    await crowd()
    report("all", "done")


asyncio.run(main())
