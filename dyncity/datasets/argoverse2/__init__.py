"""Argoverse 2 sensor logs, read without the ``av2`` package: ``docs/import-av2.md`` says what becomes of them.

``tables`` reads feather strictly, ``log`` a log folder, ``ground_map`` its map, ``sweeps`` turns LiDAR
into world-fixed cells, ``tracks`` cuboids into tracks, ``voxelise`` all of it into a scene.
"""
