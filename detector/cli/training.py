"""Trains once the readings are read: the quick model, the trained one, and the output of both."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from detector.cli.progress import progress_bar

if TYPE_CHECKING:
    from detector.lab.options import Options
    from detector.lab.progress import Epoch, Progress
    from detector.lab.sequences import Recorded
    from detector.lab.train import Trained

LINES_EVERY_S = 10.0
FIRST_LINE_S = 1.0


@dataclass(frozen=True, slots=True)
class Work:
    """Readings to train on, and where the bundle goes. to_error: standard output is for machines"""

    out: Path
    channels: Sequence[str]
    sequences: Sequence[Recorded]
    data: str
    with_picture: bool
    to_error: bool = False

    def train(self, options: Options) -> Trained:
        """One model, with what it takes on the screen."""
        from detector.lab.progress import Reporter
        from detector.lab.train import train

        with Screen() as screen:
            return train(self.sequences, self.channels, options, Reporter(screen.epoch, screen.progress))

    def train_in_two(self, options: Options) -> None:
        """A quick model first, then the trained one: it takes the first one's place if it errs less on readings that no weight saw."""
        from detector.adapters.bundle import MANIFEST
        from detector.lab.forecast_baselines import mean_ratio

        has_model = (self.out / MANIFEST).exists()
        at_once = replace(options, is_quick=True)
        first = self.train(at_once)
        kept = f"{self.out} keeps the model that was there" if has_model else f"{self.out} holds the first model"
        if not has_model:
            self._write(first, at_once)
        typer.echo(f"first model, a random memory: {first.verdict}", err=self.to_error)
        typer.echo(f"{kept} until the trained one is better; Ctrl-C leaves it so", err=True)
        try:
            trained = self.train(options)
        except KeyboardInterrupt:
            typer.echo(f"stopped: {kept}", err=True)
            raise
        ratio = mean_ratio(trained.errors["network"], first.errors["network"])
        if ratio < 1:
            self.save(trained, options)
            typer.echo(
                f"Its error is {100 * (1 - ratio):.1f} % smaller than the first model's: {self.out} holds the trained one.",
                err=self.to_error,
            )
        else:
            self.save(first, at_once)
            typer.echo(
                f"The trained one errs no less ({100 * (ratio - 1):.1f} % more): {self.out} holds the first model, a random memory.",
                err=self.to_error,
            )

    def save(self, trained: Trained, options: Options) -> None:
        """Write the bundle and say what came of it."""
        from rich.console import Console
        from rich.table import Table

        fingerprint = self._write(trained, options)
        console = Console(stderr=self.to_error)
        table = Table("channel", *trained.errors, title="mean error on readings no weight saw, standard deviations of the channel")
        for k, channel in enumerate(self.channels[:20]):
            table.add_row(channel, *(f"{error[k]:.4f}" for error in trained.errors.values()))
        console.print(table)
        console.print(trained.verdict, soft_wrap=True)
        console.print(f"{self.out}  fingerprint {fingerprint}", soft_wrap=True)
        console.print(f"Next: detector run --model {self.out} --topic TOPIC", soft_wrap=True)

    def _write(self, trained: Trained, options: Options) -> str:
        """The bundle; returns its fingerprint."""
        from dataclasses import asdict

        from detector.adapters.bundle import Bundle, save_bundle
        from detector.lab.plotting import training_png

        about = {
            "data": self.data,
            "options": asdict(options),
            "device": trained.device,
            "split": trained.split.by,
            "epochs": len(trained.epochs),
            "errors": {name: dict(zip(self.channels, error.round(6).tolist(), strict=True)) for name, error in trained.errors.items()},
            "verdict": trained.verdict,
        }
        return save_bundle(self.out, Bundle(trained.model, about, training_png(trained) if self.with_picture else b"")).fingerprint


class Screen:
    """The progress of a training: on a terminal a bar with losses and the time left, elsewhere a line every LINES_EVERY_S."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, TextColumn

        self._bar = progress_bar(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[facts]}"))
        self._task = self._bar.add_task("training", facts="")
        self._stage, self._stage_began_s, self._facts = "", 0.0, ""
        self._next_line_s = time.monotonic() + FIRST_LINE_S

    def __enter__(self) -> Screen:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def progress(self, progress: Progress) -> None:
        """Take how far a stage is."""
        now_s = time.monotonic()
        if progress.stage != self._stage:
            self._stage, self._stage_began_s = progress.stage, now_s
        share = progress.played / max(progress.total, 1)
        left = f"{(now_s - self._stage_began_s) * (1 - share) / share:.0f} s left of it" if share > 0 else ""
        facts = "  ".join(filter(None, (left, self._facts)))
        self._bar.update(self._task, description=progress.stage, total=progress.total, completed=progress.played, facts=facts)
        self._line(f"{progress.stage}: {100 * share:.0f} %  {facts}")

    def epoch(self, epoch: Epoch) -> None:
        """Take one epoch's losses."""
        self._facts = f"loss {epoch.train_loss:.3f}  held out {epoch.held_out_loss:.3f}  {epoch.seconds_left:.0f} s left at most"
        self._line(f"epoch {epoch.number}: done  {self._facts}")

    def _line(self, line: str) -> None:
        if self._bar.disable and time.monotonic() >= self._next_line_s:
            self._next_line_s = time.monotonic() + LINES_EVERY_S
            typer.echo(line, err=True)
