"""`python -m services.router`"""

from __future__ import annotations

import asyncio

from services.chassis import logging
from services.router.app import serve
from services.router.settings import RouterSettings

if __name__ == "__main__":
    settings = RouterSettings()
    logging.configure("router", settings.log_level, settings.log_format)
    asyncio.run(serve(settings))
