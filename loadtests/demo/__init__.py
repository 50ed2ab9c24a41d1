"""The demo: a real year through the whole loop, told and drawn, and its books checked."""
