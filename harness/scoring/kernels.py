"""Compiled kernels: count label pairs, find surfaces, look for the nearest surface element.

Every kernel works on a range of rows or elements and releases the interpreter lock, so plain threads run them side by
side. No threading layer of numba is involved, which keeps them safe under fork and under concurrent callers.
`plain.py` holds the NumPy twins. Imported late: importing numba costs more than everything else on the way.

Two kinds of surface share the code. Voxel surface: voxels with a face neighbour outside the class. Half-shifted
surface (``half``): corners of voxels whose eight voxels are mixed; corner (i, j, k) is the first corner of voxel
(i, j, k), so the lattice has one more element along every axis. Outside the array is background in both.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from harness.scoring.compiled import compiled

__all__ = ["areas", "count", "encode", "find_surface", "search_near", "split"]

# Read-only in the signatures: they then accept arrays that may not be written to, such as memory-mapped files.
_CODES = types.Array(types.uint8, 3, "C", readonly=True)
_BITS = types.Array(types.uint64, 1, "C", readonly=True)
_LONGS = types.Array(types.int64, 1, "C", readonly=True)
_REALS = types.Array(types.float64, 1, "C", readonly=True)
_ROWS = types.Array(types.boolean, 2, "C", readonly=True)
_STEPS = types.Array(types.int32, 2, "C", readonly=True)
_I, _B = types.int64, types.boolean


@compiled()
def encode(labels, low, table, codes):  # type: ignore[no-untyped-def]
    """Write ``table[label - low]`` for labels inside the table and 0 for all others; compiled once per dtype."""
    for v in range(labels.size):
        place = np.int64(labels[v]) - low
        codes[v] = table[place] if 0 <= place < table.size else 0


@compiled(types.void(_CODES, _CODES, _B, _I, _I, types.int64[:, ::1], types.boolean[:, ::1]))
def count(prediction, reference, zero_counts, start, stop, pairs, occupied):  # type: ignore[no-untyped-def]
    """Count pairs of codes in planes ``start`` to ``stop`` of axis 0.

    Parameters
    ----------
    prediction, reference : uint8 array of shape (I, J, K)
        Label codes.
    zero_counts : bool
        Whether code 0 belongs to a class. Otherwise voxels with code 0 in both maps are neither counted nor visited.
    pairs : int64 array of shape (256, 256)
        Added to: how often each pair of codes occurs.
    occupied : bool array of shape (I, J)
        Set for rows in which anything was counted.
    """
    _, n1, n2 = prediction.shape
    for i in range(start, stop):
        for j in range(n1):
            row_p, row_r = prediction[i, j], reference[i, j]
            labels = np.uint8(zero_counts)
            for k in range(n2):  # a plain reduction, so that the compiler looks at 64 voxels at a time
                labels |= row_p[k] | row_r[k]
            if labels == 0:
                continue
            occupied[i, j] = True
            for k in range(n2):
                if zero_counts or (row_p[k] | row_r[k]) != 0:
                    pairs[row_p[k], row_r[k]] += 1


@njit(inline="always")
def _voxel(codes, bits, i, j, k):  # type: ignore[no-untyped-def]
    """Classes whose surface contains voxel (i, j, k)."""
    n0, n1, n2 = codes.shape
    here = codes[i, j, k]
    on = bits[here]
    if on == 0 or i == 0 or j == 0 or k == 0 or i == n0 - 1 or j == n1 - 1 or k == n2 - 1:
        return on
    a, b = codes[i, j, k - 1], codes[i, j, k + 1]
    c, d = codes[i, j - 1, k], codes[i, j + 1, k]
    e, f = codes[i - 1, j, k], codes[i + 1, j, k]
    if a == here and b == here and c == here and d == here and e == here and f == here:
        return np.uint64(0)
    return on & ~(bits[a] & bits[b] & bits[c] & bits[d] & bits[e] & bits[f])


@njit(inline="always")
def _corner(codes, bits, i, j, k):  # type: ignore[no-untyped-def]
    """Classes whose half-shifted surface contains corner (i, j, k)."""
    n0, n1, n2 = codes.shape
    if 0 < i < n0 and 0 < j < n1 and 0 < k < n2:
        a, b = codes[i - 1, j - 1, k - 1], codes[i - 1, j - 1, k]
        c, d = codes[i - 1, j, k - 1], codes[i - 1, j, k]
        e, f = codes[i, j - 1, k - 1], codes[i, j - 1, k]
        g, h = codes[i, j, k - 1], codes[i, j, k]
        if a == b and b == c and c == d and d == e and e == f and f == g and g == h:
            return np.uint64(0)
        some = bits[a] | bits[b] | bits[c] | bits[d] | bits[e] | bits[f] | bits[g] | bits[h]
        every = bits[a] & bits[b] & bits[c] & bits[d] & bits[e] & bits[f] & bits[g] & bits[h]
        return some & ~every
    some = np.uint64(0)
    for a in range(max(i - 1, 0), min(i + 1, n0)):
        for b in range(max(j - 1, 0), min(j + 1, n1)):
            for c in range(max(k - 1, 0), min(k + 1, n2)):
                some |= bits[codes[a, b, c]]
    return some  # at the border of the array at least one of the eight is background


@njit(inline="always")
def _on(codes, bits, half, i, j, k):  # type: ignore[no-untyped-def]
    return _corner(codes, bits, i, j, k) if half else _voxel(codes, bits, i, j, k)


@njit(inline="always")
def _near_occupied(occupied, half, i, j):  # type: ignore[no-untyped-def]
    if not half:
        return occupied[i, j]
    for a in range(max(i - 1, 0), min(i + 1, occupied.shape[0])):
        for b in range(max(j - 1, 0), min(j + 1, occupied.shape[1])):
            if occupied[a, b]:
                return True
    return False


@njit(inline="always")
def _mark_mixed(codes, half, i, j, mixed):  # type: ignore[no-untyped-def]
    """Set ``mixed[k]`` where lattice row (i, j) may meet a surface; plain loops that the compiler vectorises."""
    n0, n1, n2 = codes.shape
    if i == 0 or j == 0 or i == n0 - 1 + half or j == n1 - 1 + half:
        mixed[:] = 1
        return
    mixed[0] = mixed[-1] = 1
    here = codes[i, j]
    if half:
        a, b, c, d = codes[i - 1, j - 1], codes[i - 1, j], codes[i, j - 1], here
        inner = mixed[1:-1]
        a1, b1, c1, d1 = a[1:], b[1:], c[1:], d[1:]
        for k in range(n2 - 1):
            inner[k] = (
                (a[k] ^ d[k]) | (b[k] ^ d[k]) | (c[k] ^ d[k]) | (d1[k] ^ d[k])
                | (a1[k] ^ d[k]) | (b1[k] ^ d[k]) | (c1[k] ^ d[k])
            )  # fmt: skip
    elif n2 > 2:
        left, right = codes[i, j - 1][1:], codes[i, j + 1][1:]
        above, below = codes[i - 1, j][1:], codes[i + 1, j][1:]
        middle, after = here[1:], here[2:]
        inner = mixed[1:]
        for k in range(n2 - 2):
            inner[k] = (
                (here[k] ^ middle[k]) | (after[k] ^ middle[k]) | (left[k] ^ middle[k])
                | (right[k] ^ middle[k]) | (above[k] ^ middle[k]) | (below[k] ^ middle[k])
            )  # fmt: skip


@compiled(_I(_CODES, _BITS, _ROWS, _B, _I, _I, types.int64[::1], types.uint64[::1]))
def find_surface(codes, bits, occupied, half, row, stop, where, classes):  # type: ignore[no-untyped-def]
    """List the surface elements of all classes, in scan order, from row ``row`` until ``stop`` or the list is full.

    Parameters
    ----------
    codes : uint8 array of shape (I, J, K)
        Label codes of one map.
    bits : uint64 array of shape (256,)
        Code -> one bit per class that it belongs to.
    occupied : bool array of shape (I, J)
        Rows worth visiting, from `count`.
    row, stop : int
        Range of rows of the lattice, counted through axes 0 and 1.
    where : int64 array of shape (n,)
        Set: flat lattice index of each element; entry 0 holds how many there are.
    classes : uint64 array of shape (n,)
        Set: bits of the classes whose surface it belongs to.

    Returns
    -------
    int
        The first row that was not visited.
    """
    n1, n2 = codes.shape[1] + half, codes.shape[2] + half
    mixed = np.empty(n2, np.uint8)
    found = 1
    while row < stop and found + n2 <= where.size:
        i, j = row // n1, row % n1
        if _near_occupied(occupied, half, i, j):
            _mark_mixed(codes, half, i, j, mixed)
            for k in range(n2):
                if mixed[k]:
                    on = _on(codes, bits, half, i, j, k)
                    if on:
                        where[found] = row * n2 + k
                        classes[found] = on
                        found += 1
        row += 1
    where[0] = found - 1
    return row


@compiled(types.int64[::1](_LONGS, _BITS, types.int64[::1]))
def split(where, classes, starts):  # type: ignore[no-untyped-def]
    """Sort elements by class, keeping their order; class c then lies at ``starts[c]`` to ``starts[c + 1]`` (set)."""
    place = np.zeros(starts.size, np.int64)
    for s in range(where.size):
        for c in range(starts.size - 1):
            place[c + 1] += (classes[s] >> np.uint64(c)) & np.uint64(1)
    place = np.cumsum(place)
    starts[:] = place
    by_class = np.empty(starts[-1], np.int64)
    for s in range(where.size):
        for c in range(starts.size - 1):
            if (classes[s] >> np.uint64(c)) & np.uint64(1):
                by_class[place[c]] = where[s]
                place[c] += 1
    return by_class


@compiled(types.void(_CODES, _BITS, types.uint64, _LONGS, _REALS, types.float64[::1]))
def areas(codes, bits, bit, where, table, out):  # type: ignore[no-untyped-def]
    """Look up the area of half-shifted surface elements of one class in the table of 256 patterns."""
    n0, n1, n2 = codes.shape
    for s in range(where.size):
        k = where[s] % (n2 + 1)
        j = (where[s] // (n2 + 1)) % (n1 + 1)
        i = where[s] // ((n1 + 1) * (n2 + 1))
        pattern = 0
        for a in range(2):
            for b in range(2):
                for c in range(2):
                    u, v, w = i - 1 + a, j - 1 + b, k - 1 + c
                    if 0 <= u < n0 and 0 <= v < n1 and 0 <= w < n2 and bits[codes[u, v, w]] & bit:
                        pattern |= 1 << (4 * a + 2 * b + c)
        out[s] = table[pattern]


@compiled(_I(_CODES, _BITS, _B, types.uint64, _LONGS, _I, _I, _STEPS, _REALS, types.float64[::1]))
def search_near(codes, bits, half, bit, where, start, stop, steps, lengths, distances):  # type: ignore[no-untyped-def]
    """Look for the nearest surface element of one class in the other map, among the nearest steps only.

    Parameters
    ----------
    codes : uint8 array of shape (I, J, K)
        Label codes of the other map.
    where : int64 array of shape (n,)
        Flat lattice indices to search from; ``start`` to ``stop`` are done here.
    steps : int32 array of shape (m, 3)
        Lattice offsets by increasing length; ``lengths`` (m,) are their lengths in mm.
    distances : float64 array of shape (n,)
        Set: distance in mm, or -1 where no step met the surface.

    Returns
    -------
    int
        How many were not found.
    """
    n0, n1, n2 = codes.shape[0] + half, codes.shape[1] + half, codes.shape[2] + half
    missed = 0
    for q in range(start, stop):
        k = where[q] % n2
        j = (where[q] // n2) % n1
        i = where[q] // (n1 * n2)
        distances[q] = -1.0
        for s in range(steps.shape[0]):
            a, b, c = i + steps[s, 0], j + steps[s, 1], k + steps[s, 2]
            if 0 <= a < n0 and 0 <= b < n1 and 0 <= c < n2 and _on(codes, bits, half, a, b, c) & bit:
                distances[q] = lengths[s]
                break
        missed += distances[q] < 0
    return missed
