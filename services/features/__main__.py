"""`python -m services.features stream` and `python -m services.features serve`"""

from __future__ import annotations

import argparse
import sys

from services.features.app import run_serve, run_stream

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m services.features", description=__doc__)
    parser.add_argument("part", choices=("stream", "serve"))
    sys.exit(run_stream() if parser.parse_args().part == "stream" else run_serve())
