"""Levenberg-Marquardt on the six pose parameters: the second-order step at the end."""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .damped_step import Move, depth_of, propose

_DAMPING_START = 1e-3
_DAMPING_LEAST, _DAMPING_MOST = 1e-7, 1e6
_ACCEPT, _REJECT = 0.2, 8.0  # factors of the damping after a step that helped, or did not
_STRETCH, _STRETCH_MOST = 1.6, 5.0  # factor of the stretch after each step in one direction
_SAME_WAY = 0.7  # cosine between two steps that counts as one direction


class Equations(Protocol):
    """What the renderer gives at one pose (see gaussian_renderer.normal_equations)."""

    @property
    def jtj(self) -> Tensor:
        """[6, 6] float64, J^T W J for the left twist (omega, v) in the camera frame."""
        ...

    @property
    def jtr(self) -> Tensor:
        """[6] float64, J^T W r of the residual rendering - query: the gradient of `loss`."""
        ...

    @property
    def loss(self) -> float:
        """The robust cost."""
        ...


@dataclass(frozen=True)
class Descent:
    """The end of a Levenberg-Marquardt run."""

    world_to_camera: Tensor  # [4, 4] float64
    loss: float
    jtj: Tensor  # [6, 6] float64 at that pose, camera frame
    evaluations: int
    converged: bool
    history: tuple[float, ...]  # loss at every accepted pose, the start first


def levenberg_marquardt(
    equations: Callable[[Tensor], Equations],  # at a world_to_camera [4, 4] float64
    start: Tensor,  # [4, 4] float64
    centre: Tensor,  # [3] of the object, world
    radius: float,  # of the object, world units
    *,
    evaluations: int = 12,
    tolerance: float = 1e-5,  # step in radians and object radii at which it has converged
) -> Descent:
    """Minimises the robust cost over world_to_camera by damped Gauss-Newton steps.

    Steps are taken and damped in coordinates about the object's centre, with translations in units
    of its radius: there a turn and a shift are hardly coupled, and the result does not depend on
    the unit of length. Texture finer than the error makes Gauss-Newton steps too short, so that
    many small ones follow each other in one direction; then they are stretched, as long as it pays.
    """
    run = _Run(start, equations(start), evaluations, tolerance)
    start_depth = depth_of(start, centre)
    while run.goes_on:
        damping, stretch = torch.tensor([run.damping, run.stretch], dtype=torch.float64)
        move = propose(
            run.pose, run.current.jtj, run.current.jtr, damping, stretch, start_depth, centre,
            radius,
        )  # fmt: skip
        if bool(move.possible):
            run.take(move, equations(move.pose))
        else:
            run.stop()
    return run.end()


def levenberg_marquardt_together(
    equations: Callable[[list[int], Tensor], Sequence[Equations]],  # of problems, at [K, 4, 4]
    starts: Tensor,  # [B, 4, 4] float64
    centre: Tensor,
    radius: float,
    *,
    evaluations: int = 12,
    tolerance: float = 1e-5,
) -> list[Descent]:
    """`levenberg_marquardt` for B problems in lock step, by the same rules, each for itself.

    `equations` is asked once per step for all problems that still go on.
    """
    first, depths = equations(list(range(len(starts))), starts), depth_of(starts, centre)
    runs = [
        _Run(start, at, evaluations, tolerance) for start, at in zip(starts, first, strict=True)
    ]
    while going := [number for number, run in enumerate(runs) if run.goes_on]:
        moves = _propose_together([runs[number] for number in going], depths[going], centre, radius)
        taken = dict(zip(going, moves, strict=True))
        for number in [n for n, move in taken.items() if not bool(move.possible)]:
            runs[number].stop()
            del taken[number]
        if taken:
            poses = torch.stack([move.pose for move in taken.values()])
            found = equations(list(taken), poses)
            for (number, move), there in zip(taken.items(), found, strict=True):
                runs[number].take(move, there)
    return [run.end() for run in runs]


class _Run:
    """One minimisation: where it stands, and what follows from the equations after a step."""

    def __init__(self, start: Tensor, first: Equations, evaluations: int, tolerance: float) -> None:
        self.pose, self.current = start, first
        self._previous = [0.0] * 6
        self.damping, self.stretch = _DAMPING_START, 1.0
        self._most, self._tolerance = evaluations, tolerance
        self._used, self._converged, self._stuck = 1, False, False
        self._history = [first.loss]

    @property
    def goes_on(self) -> bool:
        """Whether another step is to be tried."""
        ended = self._converged or self._stuck or self.damping > _DAMPING_MOST
        return self._used < self._most and not ended

    def take(self, move: Move, trial: Equations) -> None:
        """Keeps a step that helped; else shortens the next one."""
        self._used += 1
        step = move.step.tolist()
        small = max(map(abs, step)) * self.stretch < self._tolerance
        if trial.loss < self.current.loss:
            self._converged = small
            onwards = _same_way(step, self._previous)
            self.stretch = min(self.stretch * _STRETCH, _STRETCH_MOST) if onwards else 1.0
            self.damping = max(self.damping * _ACCEPT, _DAMPING_LEAST)
            self.pose, self.current, self._previous = move.pose, trial, step
            self._history.append(trial.loss)
        elif self.stretch > 1:
            self.stretch = 1.0
        else:
            self._converged = small
            self.damping *= _REJECT

    def stop(self) -> None:
        """There is no sensible step from here."""
        self._stuck = True

    def end(self) -> Descent:
        """What has been reached."""
        return Descent(
            self.pose, self.current.loss, self.current.jtj, self._used, self._converged,
            tuple(self._history),
        )  # fmt: skip


def _propose_together(
    runs: Sequence[_Run], depths: Tensor, centre: Tensor, radius: float
) -> list[Move]:
    """The next step of each run."""
    moves = propose(
        torch.stack([run.pose for run in runs]),
        torch.stack([run.current.jtj for run in runs]),
        torch.stack([run.current.jtr for run in runs]),
        torch.tensor([run.damping for run in runs], dtype=torch.float64),
        torch.tensor([run.stretch for run in runs], dtype=torch.float64),
        depths, centre, radius,
    )  # fmt: skip
    return [Move(*parts) for parts in zip(*moves, strict=True)]


def _same_way(step: list[float], previous: list[float]) -> bool:
    """True when two steps point the same way."""
    lengths = math.hypot(*step) * math.hypot(*previous)
    return lengths > 0 and sum(map(operator.mul, step, previous)) > _SAME_WAY * lengths
