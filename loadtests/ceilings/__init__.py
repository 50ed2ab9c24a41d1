"""The most that serving can give, asked by a generator that costs nearly nothing: `python -m loadtests.ceilings`."""
