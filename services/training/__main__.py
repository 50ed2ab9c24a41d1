"""`python -m services.training`"""

from __future__ import annotations

import asyncio

from services.chassis import logging
from services.training.app import serve
from services.training.settings import TrainingSettings

if __name__ == "__main__":
    settings = TrainingSettings()
    logging.configure("training", settings.log_level, settings.log_format)
    asyncio.run(serve(settings))
