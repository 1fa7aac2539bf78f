"""Poll a folder as long as a service runs."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)


async def poll(look: Callable[[], Awaitable[object]], seconds: float, failure: str) -> None:
    """Call `look` every `seconds` without end; errors are logged, and the service keeps its current release."""
    while True:
        await asyncio.sleep(seconds)
        try:
            await look()
        except Exception as error:
            log.error("%s: %s", failure, error)
