"""The stroke that a hand would draw along the middle of a region.

A skeleton's longest path, found without a skeleton: the region is cut into cells, a step between cells costs the
more the nearer they are to the rim, and the stroke joins the two cells that are farthest apart.
"""

from __future__ import annotations

import heapq
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fssbench.banks.randomness import below

Cell = tuple[int, int]
Region = NDArray[np.bool_]

_CELLS = 32  # along the longer side of a region's box, unless it is thinner than a cell
_RIM_COST = 24  # how much more a step along the rim costs than one in the middle


def longest_stroke(region: Region, rng: np.random.Generator) -> Region:
    """H x W, a line one pixel wide along the middle of a connected, non-empty region, shortened a little by lot."""
    rows, columns = np.nonzero(region)
    top, left = int(rows.min()), int(columns.min())
    cropped = region[top : rows.max() + 1, left : columns.max() + 1]
    side, cells = _cells(cropped)
    path = _shortened(_longest_path(_costs(cells)), rng)
    stroke = np.zeros(region.shape, dtype=bool)
    middles = [(top + row * side + side // 2, left + column * side + side // 2) for row, column in path]
    for start, end in pairwise(middles if len(middles) > 1 else middles * 2):  # a path of one cell is a point
        steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
        for i in range(steps + 1):
            stroke[start[0] + (end[0] - start[0]) * i // steps, start[1] + (end[1] - start[1]) * i // steps] = True
    return stroke & region


def _cells(region: Region) -> tuple[int, Region]:
    """The side of a cell in px, and which cells lie wholly in the region, the largest connected group of them."""
    side = max(1, -(-max(region.shape) // _CELLS))
    while True:
        height, width = (length // side for length in region.shape)
        blocks = region[: height * side, : width * side].reshape(height, side, width, side)
        whole = np.asarray(blocks.all(axis=(1, 3)))
        if whole.any():
            numbered, _ = ndimage.label(whole, structure=np.ones((3, 3)))
            return side, numbered == int(np.argmax(np.bincount(numbered.ravel())[1:])) + 1
        side //= 2  # a region is no thinner than one pixel


def _costs(cells: Region) -> dict[Cell, int]:
    """Cell -> cost of a step to it: 1 deep inside, up to 1 + `_RIM_COST` at the rim."""
    depth = ndimage.distance_transform_cdt(np.pad(cells, 1), metric="chessboard")[1:-1, 1:-1]
    deepest = int(depth.max())
    return {
        (int(row), int(column)): 1 + _RIM_COST * (deepest - int(depth[row, column])) // deepest
        for row, column in zip(*np.nonzero(cells), strict=True)
    }


def _longest_path(costs: dict[Cell, int]) -> list[Cell]:
    """From the cell farthest from anywhere to the cell farthest from that one."""
    start = _walk(costs, min(costs))[-1]
    return _walk(costs, start)


def _walk(costs: dict[Cell, int], start: Cell) -> list[Cell]:
    """The cheapest path from `start` to the cell that the most steps lead to (Dijkstra; ties by place)."""
    steps: dict[Cell, int] = {}
    came_from = {start: start}
    waiting = [(0, 0, start, start)]
    while waiting:
        cost, count, cell, before = heapq.heappop(waiting)
        if cell in steps:
            continue
        steps[cell], came_from[cell] = count, before
        for neighbour in _neighbours(cell):
            if neighbour in costs and neighbour not in steps:
                heapq.heappush(waiting, (cost + costs[neighbour], count + 1, neighbour, cell))
    path = [max(steps, key=lambda cell: (steps[cell], cell))]
    while path[-1] != start:
        path.append(came_from[path[-1]])
    return path[::-1]


def _neighbours(cell: Cell) -> list[Cell]:
    row, column = cell
    return [(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]


def _shortened(path: list[Cell], rng: np.random.Generator) -> list[Cell]:
    """Without up to a fifth at either end: a hand does not reach into every tip."""
    spare = len(path) // 5 + 1
    start, end = below(rng, spare), below(rng, spare)
    return path[start : len(path) - end]
