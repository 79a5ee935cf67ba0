"""What the kernels share: vectors and matrices as tuples of lanes, pinhole projection, shapes.

A vector is a tuple of three blocks, a matrix a tuple of its rows. The formulas are those of
`gaussian_renderer.reference`; the backward passes are written by hand and tested against its
gradients.
"""

import triton
import triton.language as tl

from ..reference import FRUSTUM_MARGIN, LOW_PASS, NEAR

_NEAR = tl.constexpr(NEAR)
_LOW_PASS = tl.constexpr(LOW_PASS)
_MARGIN = tl.constexpr(0.5 * FRUSTUM_MARGIN)


@triton.jit
def dot(a, b):  # type: ignore[no-untyped-def]
    """Product of two vectors."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@triton.jit
def load_vector(base, rows, mask):  # type: ignore[no-untyped-def]
    """Rows of a table [N, 3]."""
    at = base + rows * 3
    return (
        tl.load(at, mask=mask, other=0.0),
        tl.load(at + 1, mask=mask, other=0.0),
        tl.load(at + 2, mask=mask, other=0.0),
    )


@triton.jit
def store_vector(base, rows, vector, mask):  # type: ignore[no-untyped-def]
    """Rows of a table [N, 3]."""
    at = base + rows * 3
    tl.store(at, vector[0], mask=mask)
    tl.store(at + 1, vector[1], mask=mask)
    tl.store(at + 2, vector[2], mask=mask)


@triton.jit
def load_view(views, number):  # type: ignore[no-untyped-def]
    """Rotation (three rows) and translation of a view [4, 4]."""
    at = views + number * 16
    rotation = (
        (tl.load(at), tl.load(at + 1), tl.load(at + 2)),
        (tl.load(at + 4), tl.load(at + 5), tl.load(at + 6)),
        (tl.load(at + 8), tl.load(at + 9), tl.load(at + 10)),
    )
    return rotation, (tl.load(at + 3), tl.load(at + 7), tl.load(at + 11))


@triton.jit
def to_camera(rotation, translation, mean):  # type: ignore[no-untyped-def]
    """A point in the camera's frame."""
    return (
        dot(rotation[0], mean) + translation[0],
        dot(rotation[1], mean) + translation[1],
        dot(rotation[2], mean) + translation[2],
    )


@triton.jit
def from_camera(rotation, vector):  # type: ignore[no-untyped-def]
    """A direction of the camera's frame in the object's: R^T v."""
    return (
        rotation[0][0] * vector[0] + rotation[1][0] * vector[1] + rotation[2][0] * vector[2],
        rotation[0][1] * vector[0] + rotation[1][1] * vector[1] + rotation[2][1] * vector[2],
        rotation[0][2] * vector[0] + rotation[1][2] * vector[1] + rotation[2][2] * vector[2],
    )


@triton.jit
def slope_row(row, last, slope, factor):  # type: ignore[no-untyped-def]
    """One row of d(u, v) / d(object point): focal / z times (row - slope of the ray * last row)."""
    return (
        factor * (row[0] - slope * last[0]),
        factor * (row[1] - slope * last[1]),
        factor * (row[2] - slope * last[2]),
    )


@triton.jit
def held(ratio, size, focal):  # type: ignore[no-untyped-def]
    """x / z held within the widened frustum, and where it was not held."""
    limit = size * _MARGIN / focal
    return tl.minimum(tl.maximum(ratio, -limit), limit), tl.abs(ratio) <= limit


@triton.jit
def place(rotation, translation, mean, fx, fy, width, height):  # type: ignore[no-untyped-def]
    """Camera-frame point, 1 / z, held slopes, where they are free, Jacobian, whether in front."""
    point = to_camera(rotation, translation, mean)
    in_front = point[2] > _NEAR
    inverse = 1.0 / tl.where(in_front, point[2], 1.0)
    across, free_x = held(point[0] * inverse, width, fx)
    down, free_y = held(point[1] * inverse, height, fy)
    jacobian = (
        slope_row(rotation[0], rotation[2], across, fx * inverse),
        slope_row(rotation[1], rotation[2], down, fy * inverse),
    )
    return point, inverse, (across, down), (free_x, free_y), jacobian, in_front


@triton.jit
def axes_of(quaternion, scale):  # type: ignore[no-untyped-def]
    """Rotation of a unit quaternion (w, x, y, z) times diag(scale), three rows."""
    w, x, y, z = quaternion[0], quaternion[1], quaternion[2], quaternion[3]
    return (
        (
            scale[0] * (1.0 - 2.0 * (y * y + z * z)),
            scale[1] * 2.0 * (x * y - w * z),
            scale[2] * 2.0 * (x * z + w * y),
        ),
        (
            scale[0] * 2.0 * (x * y + w * z),
            scale[1] * (1.0 - 2.0 * (x * x + z * z)),
            scale[2] * 2.0 * (y * z - w * x),
        ),
        (
            scale[0] * 2.0 * (x * z - w * y),
            scale[1] * 2.0 * (y * z + w * x),
            scale[2] * (1.0 - 2.0 * (x * x + y * y)),
        ),
    )


@triton.jit
def load_shape(log_scales, quaternions, rows, mask):  # type: ignore[no-untyped-def]
    """Unit quaternion, 1 / its length before, scales."""
    logs = load_vector(log_scales, rows, mask)
    at = quaternions + rows * 4
    w = tl.load(at, mask=mask, other=1.0)
    x = tl.load(at + 1, mask=mask, other=0.0)
    y = tl.load(at + 2, mask=mask, other=0.0)
    z = tl.load(at + 3, mask=mask, other=0.0)
    inverse = 1.0 / tl.maximum(tl.sqrt(w * w + x * x + y * y + z * z), 1e-12)
    quaternion = (w * inverse, x * inverse, y * inverse, z * inverse)
    return quaternion, inverse, (tl.exp(logs[0]), tl.exp(logs[1]), tl.exp(logs[2]))


@triton.jit
def half_of(jacobian, axes):  # type: ignore[no-untyped-def]
    """Jacobian times axes, two rows; the covariance is half half^T + low pass."""
    first = (axes[0][0], axes[1][0], axes[2][0])
    second = (axes[0][1], axes[1][1], axes[2][1])
    third = (axes[0][2], axes[1][2], axes[2][2])
    return (
        (dot(jacobian[0], first), dot(jacobian[0], second), dot(jacobian[0], third)),
        (dot(jacobian[1], first), dot(jacobian[1], second), dot(jacobian[1], third)),
    )


@triton.jit
def conic_of(half):  # type: ignore[no-untyped-def]
    """Inverse covariance (xx, xy, yy), the covariance's diagonal, and the determinant."""
    h, k = half[0], half[1]
    xx, xy, yy = dot(h, h), dot(h, k), dot(k, k)
    # |h x k|^2 = xx yy - xy^2 without the cancellation that a needle would suffer from
    cross = (h[1] * k[2] - h[2] * k[1], h[2] * k[0] - h[0] * k[2], h[0] * k[1] - h[1] * k[0])
    determinant = dot(cross, cross) + (xx + yy) * _LOW_PASS + _LOW_PASS * _LOW_PASS
    inverse = 1.0 / determinant
    conic = ((yy + _LOW_PASS) * inverse, -xy * inverse, (xx + _LOW_PASS) * inverse)
    return conic, (xx + _LOW_PASS, yy + _LOW_PASS), determinant


@triton.jit
def see(means, log_scales, quaternions, views, view, rows, mask, fx, fy, width, height):  # type: ignore[no-untyped-def]
    """All of a projection: rotation, mean, what `place` and `load_shape` give, axes, half, conic.

    Last, the covariance's diagonal and where a Gaussian is drawn.
    """
    rotation, translation = load_view(views, view)
    mean = load_vector(means, rows, mask)
    placed = place(rotation, translation, mean, fx, fy, width, height)
    shape = load_shape(log_scales, quaternions, rows, mask)
    axes = axes_of(shape[0], shape[2])
    half = half_of(placed[4], axes)
    conic, spread, determinant = conic_of(half)
    drawn = mask & placed[5] & (determinant > 0.0)
    return rotation, mean, placed, shape, axes, half, conic, spread, drawn
