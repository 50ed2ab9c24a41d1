"""What each peer runs, in its own virtual environment and with this folder as its path; nothing of ours is there."""
