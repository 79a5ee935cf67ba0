"""Lines at the foot of a terminal that are drawn over and over, and lines above that stay."""

import shutil
from collections.abc import Sequence
from typing import TextIO

_UP_AND_CLEAR = "\x1b[{}F\x1b[J"  # to the start of the line so many above; clears what follows


class Screen:
    """A stream; where it is no terminal, nothing is ever drawn over."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.is_terminal = stream, stream.isatty()
        self._drawn = 0

    def say(self, line: str) -> None:
        """Prints a line that stays; what was drawn is gone until it is drawn again."""
        self.stream.write(f"{self._erased()}{line}\n")
        self.stream.flush()

    def draw(self, lines: Sequence[str]) -> None:
        """Puts these lines in the place of those drawn before; a terminal's size cuts them off."""
        if self.is_terminal:
            width, height = shutil.get_terminal_size()
            lines = [line[: width - 1] for line in lines[: height - 1]]  # or it would scroll away
        erased = self._erased()
        self.stream.write(erased + "".join(f"{line}\n" for line in lines))
        self.stream.flush()
        self._drawn = len(lines)

    def _erased(self) -> str:
        count, self._drawn = self._drawn, 0
        return _UP_AND_CLEAR.format(count) if self.is_terminal and count else ""
