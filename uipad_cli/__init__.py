"""uipad: find defects in parts from a colour image and a registered 3D scan, having seen only good parts."""

__version__ = "0.1.0"
