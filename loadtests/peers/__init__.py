"""Other model servers beside ours: the same model, the same generator, in turns: `python -m loadtests.peers`."""
