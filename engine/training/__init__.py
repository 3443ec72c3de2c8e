"""The recipe of the embedded Chinese–English demo model: `python -m engine.training --pairs PATH`."""
