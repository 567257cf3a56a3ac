"""Ways to carry messages: one WebSocket each, seen through `base.Link`.

`raw` reads and writes an asyncio transport itself and is the default on both ends; `aio` goes through aiohttp's
WebSocket. `dial` makes links as the agent, `listen` accepts them in an aiohttp server.
"""
