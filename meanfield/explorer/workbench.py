"""Keeps what has been compiled and computed, so that no request waits for a compiler."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from meanfield.dual import Dual
from meanfield.explorer import view
from meanfield.explorer.settings import Settings
from meanfield.grids.phase_diagrams import PhaseDiagram

_DIAGRAMS_KEPT = 64
_PAUSE_SECONDS = 0.25  # a slider that is still moving gets no diagram yet


@dataclass(frozen=True)
class Answer:
    """What is known of one setting now; None is still being compiled or computed."""

    settings: Settings
    numbers: view.Numbers | None
    curves: view.Curves | None
    diagram: PhaseDiagram | None
    trouble: str = ""

    @property
    def pending(self) -> str:
        """What is still to come, in words; empty if nothing is."""
        if self.trouble:
            return ""
        parts = {"numbers": self.numbers, "curves": self.curves, "diagram": self.diagram}
        return ", ".join(name for name, value in parts.items() if value is None)


class Workbench:
    """Answers at once with what is ready, and prepares the rest in two threads of its own.

    One compiles the functions of an activation in a block; the other computes diagrams, which take longer,
    and the tables that make curves fast. Both always turn to the latest setting that was asked for.
    """

    def __init__(self) -> None:
        self._latest: Settings | None = None
        self._ready: dict[str, set[tuple]] = {"numbers": set(), "curves": set()}
        self._diagrams: OrderedDict[tuple, PhaseDiagram] = OrderedDict()
        self._tables: dict[tuple, Dual | None] = {}
        self._troubles: dict[tuple, str] = {}
        self._changed = threading.Condition()
        for work in (self._compile, self._draw):
            threading.Thread(target=self._run, args=(work,), daemon=True).start()

    def answer(self, settings: Settings) -> Answer:
        with self._changed:
            self._latest = settings
            self._changed.notify_all()
            numbers_ready, curves_ready = (settings.program in ready for ready in self._ready.values())
            diagram = self._diagrams.get(_key(settings))
            trouble = self._troubles.get(settings.program, "")
            table = self._tables.get(settings.program)
        numbers = view.numbers(settings) if numbers_ready else None
        curves = None
        if numbers is not None and curves_ready:
            curves = view.curves(settings, numbers.values["q"], table)
        return Answer(settings, numbers, curves, diagram, trouble)

    def _run(self, work) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._latest is not None and self._is_open(work, self._latest))
                settings = self._latest
            assert settings is not None
            try:
                work(settings)
            except Exception as error:
                # Whatever an activation of the user's does, the page says it and goes on.
                with self._changed:
                    self._troubles[settings.program] = f"{settings.activation}: {error}"

    def _is_open(self, work, settings: Settings) -> bool:
        if settings.program in self._troubles:
            return False
        if work == self._draw:
            done = _key(settings) in self._diagrams and settings.program in self._tables
            return settings.program in self._ready["curves"] and not done
        return settings.program not in self._ready["curves"]

    def _compile(self, settings: Settings) -> None:
        numbers = view.numbers(settings)
        self._mark("numbers", settings)
        with self._changed:
            if self._latest is not None and self._latest.program != settings.program:
                return  # to that one first
        view.curves(settings, numbers.values["q"])
        self._mark("curves", settings)

    def _mark(self, what: str, settings: Settings) -> None:
        with self._changed:
            self._ready[what].add(settings.program)
            self._changed.notify_all()

    def _draw(self, settings: Settings) -> None:
        """The table first: it serves the diagram too, and what moves after that need not compete with it."""
        if settings.program not in self._tables:
            table = view.tabulated(settings.activation)
            if table is not None:
                view.curves(settings, 1.0, table)  # compiles
            with self._changed:
                self._tables[settings.program] = table
            return
        with self._changed:
            moved = self._changed.wait_for(lambda: _key(self._latest) != _key(settings), _PAUSE_SECONDS)
        if moved:
            return
        diagram = view.diagram(settings)
        with self._changed:
            self._diagrams[_key(settings)] = diagram
            if len(self._diagrams) > _DIAGRAMS_KEPT:
                self._diagrams.popitem(last=False)


def _key(settings: Settings | None) -> tuple:
    return () if settings is None else tuple(settings.plane)
