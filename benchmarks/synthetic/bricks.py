"""Objects of bricks: a vehicle, an animal, a building."""

from .builder import ALONG_X, ALONG_Y, PITCH, Builder
from .shapes import Box, Cylinder, Ellipsoid, wedge

_LAYER = 0.24  # world units, height of a brick


def vehicle(b: Builder) -> None:
    """A lorry: wheels, chassis, cabin, load, lamps, exhaust."""
    length, width = b.between(0.8, 1.05), b.between(0.32, 0.42)
    wheel = b.between(0.2, 0.27)
    b.brick((-length, -width, 0), (length, width, 0.12), b.black, studs=False)
    for x in (-0.62 * length, 0.66 * length) + ((-0.05 * length,) if b.between(0, 1) < 0.4 else ()):
        for y in (-width - 0.08, width + 0.08):
            b.wheel((x, y, -0.06), wheel, 0.18, b.black, b.white if x > 0 else b.paint(0))
    body = b.paint(0)
    b.brick((0.2 * length, -width, 0.12), (0.75 * length, width, 0.62), body)
    b.add(wedge(0.14 * length, width, 0.12), (0.88 * length, 0, 0.24), b.paint(1))
    b.brick(
        (0.35 * length, -width - 0.015, 0.36),
        (0.6 * length, width + 0.015, 0.54),
        b.paint(2),
        False,
    )
    b.add(Box((0.01, 0.8 * width, 0.08)), (0.75 * length, 0, 0.46), b.paint(2))
    for y in (-0.6 * width, 0.6 * width):
        b.add(Cylinder(0.05, 0.03), (1.02 * length, y, 0.18), b.white, ALONG_X)
    side = b.printed(b.white, b.between(0.14, 0.24))
    rear = b.between(0.3, 0.55)
    b.brick((-length, -width, 0.12), (0.12 * length, width, 0.12 + rear), side)
    for _ in range(int(b.random.integers(2, 5))):
        x, y = b.between(-0.85, -0.15) * length, b.between(-0.5, 0.5) * width
        size = PITCH * b.between(0.5, 1.0)
        top = 0.12 + rear
        b.brick((x - size, y - 0.12, top), (x + size, y + 0.12, top + 0.16), b.any_paint())
    b.rod(
        (0.16 * length, width - 0.05, 0.1), (0.16 * length, width - 0.05, 0.95), 0.045, b.paint(3)
    )
    b.rod((0.6 * length, -0.7 * width, 0.6), (0.52 * length, -0.8 * width, 1.05), 0.016, b.black)
    b.add(Box((0.04, 1.05 * width, 0.05)), (-1.02 * length, 0, 0.05), b.paint(1))
    b.add(Box((0.2, 0.12, 0.06)), (0.2 * length, 0.05, -0.05), b.paint(1))  # underneath
    b.add(Cylinder(0.05, 0.3 * length), (-0.3 * length, -0.2, -0.04), b.white, ALONG_X)


def animal(b: Builder) -> None:
    """Four legs, a body in layers, a head with eyes and ears, a bent tail."""
    long, wide = b.between(0.55, 0.75), b.between(0.22, 0.32)
    leg = b.between(0.35, 0.55)
    coat = b.paint(0)
    for x in (-long + 0.14, long - 0.14):
        for y in (-wide + 0.1, wide - 0.1):
            group = b.add(Cylinder(0.095, leg / 2 - 0.02), (x, y, leg / 2 + 0.02), b.white)
            b.add(Box((0.14, 0.1, 0.05)), (x + 0.04, y, 0.05), b.black, group=group)
    spotted = b.printed(coat, b.between(0.18, 0.3))
    b.brick((-long, -wide, leg), (long, wide, leg + _LAYER), spotted, studs=False)
    b.brick((-long, -wide, leg + _LAYER), (0.1, wide, leg + 1.6 * _LAYER), b.paint(1))
    b.brick((0.1, -wide, leg + _LAYER), (long, wide, leg + 2 * _LAYER), coat)
    neck = leg + 2 * _LAYER
    b.brick((long - 0.3, -0.14, neck), (long, 0.14, neck + 0.24), b.white, studs=False)
    b.brick((long - 0.34, -0.17, neck + 0.05), (long + 0.04, 0.17, neck + 0.11), b.paint(2), False)
    head = neck + 0.24
    b.brick((long - 0.34, -0.22, head), (long + 0.22, 0.22, head + 0.36), coat)
    b.brick((long + 0.22, -0.13, head), (long + 0.46, 0.13, head + 0.17), b.white, studs=False)
    b.add(Ellipsoid((0.06, 0.07, 0.05)), (long + 0.47, 0, head + 0.14), b.black)
    for y in (-0.22, 0.22):
        group = b.add(Cylinder(0.07, 0.02), (long + 0.08, y, head + 0.22), b.white, ALONG_Y)
        b.add(Cylinder(0.035, 0.03), (long + 0.09, y, head + 0.22), b.black, ALONG_Y, group)
        b.add(wedge(0.06, 0.05, 0.12), (long - 0.24, 0.75 * y, head + 0.5), b.paint(3))
    b.arc((-long, 0, leg + _LAYER), b.between(0.25, 0.4), 0.045, b.between(1.2, 2.0), b.paint(1))
    b.add(Cylinder(0.05, 0.02), (long + 0.05, 0, neck + 0.02), b.paint(3), ALONG_X)
    b.brick((-0.4, -0.15, leg + 1.6 * _LAYER), (-0.1, 0.15, leg + 2.1 * _LAYER), b.any_paint())


def building(b: Builder) -> None:
    """Layers of bricks that lie across one another, windows, a roof, a mast."""
    layers = int(b.random.integers(4, 6))
    b.brick((-0.75, -0.6, -0.1), (0.75, 0.6, 0), b.paint(0))
    for layer in range(layers):
        z = layer * _LAYER
        shift = PITCH * float(b.random.integers(-1, 2))
        for side in (-1, 1):
            half = PITCH * float(b.random.integers(1, 3))
            low, high = (-0.55, 0.05 + shift / 2) if side < 0 else (0.05 + shift / 2, 0.55)
            pattern = b.any_paint()
            if b.between(0, 1) < 0.25:
                pattern = b.printed(pattern, b.between(0.12, 0.25), axis=2)
            b.brick((low, -half - 0.1, z), (high, half, z + _LAYER), pattern, layer > layers - 3)
    top = layers * _LAYER
    for x in (-0.3, 0.3):
        b.add(Box((0.09, 0.53, 0.08)), (x, 0, 0.55 * _LAYER), b.paint(1))
    b.add(wedge(0.25, 0.3, 0.14), (0.25, 0, top + 0.14), b.paint(2))
    b.add(Cylinder(0.12, 0.22), (-0.35, 0.1, top + 0.22), b.white)
    b.rod((-0.35, 0.1, top + 0.4), (-0.35, 0.1, top + 0.85), 0.018, b.black)
    b.add(Box((0.1, 0.008, 0.06)), (-0.25, 0.1, top + 0.76), b.printed(b.paint(1), 0.08))
    b.add(Ellipsoid((0.09, 0.09, 0.09)), (0.6, -0.45, 0.09), b.paint(3))
    b.rod((0.6, 0.42, 0.0), (0.6 + b.between(0, 0.15), 0.42, 0.6), 0.05, b.paint(1))
    b.add(Box((0.3, 0.2, 0.02)), (0.2, 0.15, -0.11), b.printed(b.white, 0.16))  # underneath
    for x, y in ((-0.65, -0.5), (0.65, -0.5), (0.65, 0.5)):
        b.add(Cylinder(0.07, 0.04), (x, y, -0.13), b.black)
    for y in (-0.45, -0.3):
        b.add(Cylinder(0.05, 0.08), (-0.62, y, 0.08), b.any_paint())
