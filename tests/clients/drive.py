"""Calls every tool of `legwork mcp` with the official Python client and checks the results.

usage: drive.py auto|legacy stdio COMMAND...    or    drive.py auto|legacy http URL [TOKEN]
Exits with status 0 and prints `all good` if every check passed.
"""

import asyncio
import os
import re
import sys
from datetime import timedelta

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

TOOLS = [
    "run_background_agent",
    "list_background_agents",
    "view_background_agent",
    "stop_background_agent",
    "wait_background_agents",
    "send_background_agent",
]


def text(result):
    return "\n".join(block.text for block in result.content)


def succeeds(result):
    assert not result.is_error, text(result)
    return result


def fails(result, words):
    assert result.is_error and words in text(result), text(result)


async def drive(client, mode):
    version = client.protocol_version
    assert (version == "2026-07-28") == (mode == "auto"), version
    assert "never poll" in client.instructions
    listed = await client.list_tools()
    assert [tool.name for tool in listed.tools] == TOOLS, listed.tools
    assert all(tool.output_schema for tool in listed.tools)
    hints = {tool.name: tool.annotations.read_only_hint for tool in listed.tools}
    assert hints["view_background_agent"] and not hints["stop_background_agent"], hints

    async def run(agent, task, meta=None, **more):
        return await client.call_tool("run_background_agent", {"agent": agent, "task": task, **more}, meta=meta)

    # A dispatch, repeated with the same key and with the same tool-call id.
    first = succeeds(await run("quick", "one", key="mine"))
    one = first.structured_content["id"]
    assert re.match(rf"Background agent task started with ID: {one}\nAgent: quick\nTask: one", text(first))
    assert succeeds(await run("quick", "one", key="mine")).structured_content["id"] == one
    fails(await run("quick", "another", key="mine"), "was used for another request")
    meta = {"claudecode/toolUseId": "toolu_1"}
    two = succeeds(await run("quick", "two", meta=meta)).structured_content["id"]
    assert succeeds(await run("quick", "two", meta=meta)).structured_content["id"] == two != one
    fails(await run("stranger", "x"), 'agent "stranger" is not in the sub-agents list. Available: quick, shell')
    fails(await run("quick", " "), "task must not be empty")

    # Wait, with progress.
    progress = []

    async def on_progress(done, total, message):
        progress.append((done, total, message))

    slow = succeeds(await run("shell", "slow")).structured_content["id"]
    waited = await client.call_tool(
        "wait_background_agents", {"task_ids": [one, two, "agent_task_none"], "timeout": 30}
    )
    assert waited.is_error, waited
    assert waited.structured_content["done"] and not waited.structured_content["still_running"]
    assert [item["status"] for item in waited.structured_content["tasks"]] == ["completed", "completed", "not_found"]
    late = succeeds(
        await client.call_tool(
            "wait_background_agents", {"task_ids": [one, slow], "timeout": 0.5}, progress_callback=on_progress
        )
    )
    assert late.structured_content["still_running"] == [slow], late.structured_content
    for _ in range(100):
        if progress:
            break
        await asyncio.sleep(0.01)
    assert progress and "1 of 2 ended" in progress[0][2], progress

    # View, send, stop.
    view = {}
    while "marker" not in view.get("output", ""):
        since = view.get("next_offset", 0)
        grown = succeeds(
            await client.call_tool("view_background_agent", {"task_id": slow, "since": since, "wait_ms": 20000})
        )
        view = grown.structured_content
        assert view["output_offset"] == since, view
    shown = succeeds(await client.call_tool("view_background_agent", {"task_id": one}))
    assert "--- Output ---\nDone one." in text(shown), text(shown)
    listing = succeeds(await client.call_tool("list_background_agents", {}))
    assert {job["id"] for job in listing.structured_content["tasks"]} == {one, two, slow}
    sent = succeeds(await client.call_tool("send_background_agent", {"task_id": slow, "message": "hello"}))
    assert text(sent) == f"Message sent to background agent task {slow}."
    stopped = succeeds(await client.call_tool("stop_background_agent", {"task_id": slow}))
    assert text(stopped) == f"Background agent task {slow} stopped."
    succeeds(await client.call_tool("wait_background_agents", {"task_ids": [slow]}))
    fails(
        await client.call_tool("stop_background_agent", {"task_id": slow}),
        f"task {slow} is not running (status: stopped)",
    )
    fails(await client.call_tool("view_background_agent", {"task_id": "none"}), "task not found: none")


async def main():
    mode, transport, *rest = sys.argv[1:]
    if transport == "stdio":
        server = StdioServerParameters(command=rest[0], args=rest[1:], env=dict(os.environ))
        async with Client(server, mode=mode) as client:
            await drive(client, mode)
    else:
        headers = {"Authorization": f"Bearer {rest[1]}"} if len(rest) > 1 else {}
        timeout = httpx2.Timeout(timedelta(seconds=60).total_seconds())
        async with httpx2.AsyncClient(headers=headers, timeout=timeout, trust_env=False) as http:
            async with Client(streamable_http_client(rest[0], http_client=http), mode=mode) as client:
                await drive(client, mode)
    print("all good")


asyncio.run(main())
