"""`python -m services.monitoring`"""

from __future__ import annotations

import asyncio

from services.chassis.logging import configure
from services.monitoring.app import serve
from services.monitoring.settings import MonitoringSettings

if __name__ == "__main__":
    settings = MonitoringSettings()
    configure("monitoring", settings.log_level, settings.log_format)
    asyncio.run(serve(settings))
