"""What a door puts into another package, and the handles that hold it there."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Installation:
    """One thing that is in place while handles hold it.

    install: called when the first handle takes hold; what it returns has remove(), called when the last lets go.
    """

    def __init__(self, install: Callable):
        self._install, self._lock = install, threading.Lock()
        self._handles: set = set()
        self._installed = None  # while there are handles

    def hold(self, handle) -> None:
        with self._lock:
            if self._installed is None:
                self._installed = self._install()
            self._handles.add(handle)

    def release(self, handle) -> None:
        """For a handle that does not hold it: nothing."""
        with self._lock:
            if handle not in self._handles:
                return
            self._handles.remove(handle)
            if not self._handles:
                self._installed, installed = None, self._installed
                installed.remove()

    def __contains__(self, handle) -> bool:
        return handle in self._handles


class Handle:
    """Holds an installation until undo(), or the end of a with block."""

    def __init__(self, installation: Installation):
        self._installation = installation
        installation.hold(self)

    @property
    def holds(self) -> bool:
        return self in self._installation

    def undo(self) -> None:
        """Lets go; the other package is as it was when no other handle is left. A second call does nothing."""
        self._installation.release(self)

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.undo()
