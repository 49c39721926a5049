"""The explorer: a page on this computer that shows one prior's signal propagation as sliders move.

``settings`` is what the sliders say, ``view`` the numbers and curves that follow, ``workbench`` compiles and
keeps them, ``pictures`` (with ``drawing``) and ``page`` show them, ``server`` listens on 127.0.0.1. Only
the last two need Dash.
"""
