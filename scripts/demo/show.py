"""Runs the demo from the first line on the screen to the exit code."""

import time
from pathlib import Path

from rich.markup import escape

from integration.settings import Settings
from scripts.demo.cast import Cast
from scripts.demo.progress import Screen
from scripts.demo.promises import judge
from scripts.demo.report import show_figures, show_promises, show_where_to_look
from scripts.demo.signals import Ears, Stopped
from scripts.demo.stage import DemoFailed, Stage
from scripts.demo.story import perform
from scripts.sandbox.story import tell

__all__ = ["run"]


class _Verdict:
    """Whether every promise held; None until they were judged."""

    kept: bool | None = None


def run(*, once: bool) -> int:
    """Tell the story; return 0 when every promise held, 1 when one broke, 128 + the signal when stopped before.

    Without `once` everything stays up afterwards until Ctrl-C.

    Raises ConfigError, EmbeddedUnavailable.
    """
    screen, ears, verdict = Screen(), Ears(), _Verdict()
    with ears.listening():
        try:
            _tell(screen, ears, verdict, Settings().data_dir, once=once)
        except Stopped as stopped:
            if verdict.kept is None:
                screen.say("Stopped before the end; nothing runs any more")
                return 128 + stopped.number
        except DemoFailed as failed:
            screen.console.print(f"{screen.mark(good=False)} {escape(str(failed))}")
            return 1
    return 0 if verdict.kept else 1


def _tell(screen: Screen, ears: Ears, verdict: _Verdict, data_dir: Path, *, once: bool) -> None:
    began = time.monotonic()
    with Stage.set_up(data_dir, ears, screen.say) as stage:
        cast = Cast.of(tell())
        evidence = perform(stage, cast, screen)
        promises = judge(evidence)
        show_promises(screen, promises)
        show_figures(screen, evidence, time.monotonic() - began)
        show_where_to_look(screen, stage, evidence, stays=not once)
        kept = sum(promise.kept for promise in promises)
        ending = "" if once else " Everything stays up: Ctrl-C ends it."
        screen.console.print(f"\n[bold]{kept} of {len(promises)} promises held.[/]{ending}")
        verdict.kept = kept == len(promises)
        try:
            while not once:
                time.sleep(3600)  # until a signal
        finally:
            screen.say("Stopping everything")
