"""Work beside the kernel's event loop: its progress, a button to cancel it, and its errors, all on the panel."""

from __future__ import annotations

import asyncio
import html
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from threading import Event, Lock, Thread
from typing import Any

import ipywidgets as widgets

from fam_lib.settings import Progress


class Job:
    """One computation at a time, in a thread, so that the panel stays alive meanwhile.

    A new computation takes the place of the running one. Where no event loop runs (a script, a test) the work is
    done in place.

    Attributes:
        widgets: the progress with a button to cancel, the message, and the picture.
    """

    def __init__(self) -> None:
        self._bar = widgets.IntProgress(description="progress", style={"description_width": "7em"})
        self._button = widgets.Button(description="cancel", icon="stop")
        self._message, self._picture = widgets.HTML(), widgets.HTML()
        self._button.on_click(lambda _: self.cancel())
        self._stop, self._lock = Event(), Lock()
        self.widgets = [widgets.HBox([self._bar, self._button]), self._message, self._picture]

    def start(self, work: Callable[[Progress], Any], show: Callable[[Any], tuple[str, str]]) -> None:
        """Do the work, then show its result.

        Args:
            work: is given what ``explain`` takes as ``progress``; may run in a thread.
            show: result -> HTML of the message and of the picture; runs in the kernel's thread.
        """
        self._stop.set()
        stop = self._stop = Event()
        self._bar.value, self._button.disabled = 0, False
        self._message.value = "explaining ..."
        try:
            back = asyncio.get_running_loop().call_soon_threadsafe
        except RuntimeError:
            self._run(work, show, stop, lambda function, *arguments: function(*arguments))
        else:
            # A daemon: a kernel that is shut down does not wait for it.
            Thread(target=self._run, args=(work, show, stop, back), daemon=True).start()

    def cancel(self) -> None:
        """Give up what is running; the thread ends at its next batch."""
        self._stop.set()
        self._end("cancelled; any change of a control starts again")

    def fail(self, error: Exception) -> None:
        """Give up, and say why."""
        self._stop.set()
        self._end(f"<b>{type(error).__name__}:</b> {html.escape(str(error))}")

    def _run(self, work: Callable, show: Callable, stop: Event, back: Callable) -> None:
        """Work; `back` calls a function in the kernel's thread, where the widgets belong."""
        try:
            with self._lock:  # two computations on one network would find each other's hooks
                result = None if stop.is_set() else work(lambda steps: self._watched(steps, stop, back))
        except Exception as error:  # a thread's traceback is lost, so whatever it is goes on the panel
            back(self._unless, stop, self.fail, error)
        else:
            back(self._unless, stop, self._show, show, result)

    def _watched(self, steps: Sequence, stop: Event, back: Callable) -> Iterator:
        for done, step in enumerate(steps):
            if stop.is_set():
                raise CancelledError
            back(self._unless, stop, self._advance, done, len(steps))
            yield step

    def _unless(self, stop: Event, function: Callable, *arguments: Any) -> None:
        """Call the function, unless the computation that asks for it has been given up."""
        if not stop.is_set():
            function(*arguments)

    def _advance(self, done: int, total: int) -> None:
        self._bar.max, self._bar.value = total, done

    def _show(self, show: Callable[[Any], tuple[str, str]], result: Any) -> None:
        try:
            self._end(*show(result))
        except Exception as error:
            self.fail(error)

    def _end(self, message: str, picture: str = "") -> None:
        self._bar.value, self._button.disabled = 0, True
        self._message.value, self._picture.value = message, picture
