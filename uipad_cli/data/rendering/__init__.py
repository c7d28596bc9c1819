"""The renderer behind the built-in scenes (`data/scenes.py`): canvas, camera, light, sensor, and one part per file."""
