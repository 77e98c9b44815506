"""`python -m tests.chaos --seed S --images N --kills K`: exits 0 only if nothing was lost, miscounted or failed."""

import asyncio
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

import click

from tests.chaos.run import run


@click.command(help=__doc__)
@click.option("--seed", type=int, default=None, help="Fixes the uploads and the faults.  [default: a random one]")
@click.option("--images", type=int, default=500, show_default=True, help="Image URLs to upload.")
@click.option("--kills", type=int, default=30, show_default=True, help="Faults while they are worked on.")
@click.option("--members", type=click.Choice(["1", "3"]), default="1", show_default=True, help="Members of MongoDB.")
@click.option("--keep", is_flag=True, help="Keep the folder with logs and data.")
def main(seed: int | None, images: int, kills: int, members: str, keep: bool) -> None:
    """Runs once and prints what happened."""
    seed = secrets.randbelow(10**6) if seed is None else seed
    folder = Path(tempfile.mkdtemp(prefix="chaos"))
    click.echo(f"seed {seed}, {images} images, {kills} faults, {members} member(s) of MongoDB, in {folder}")
    report = asyncio.run(run(folder, seed=seed, images=images, kills=kills, members=int(members), say=click.echo))
    click.echo(
        f"{report.images} images of {len(report.accepted)} requests, {report.webhooks} webhooks "
        f"({report.repeats} repeats), {report.faults.total()} faults, in {report.seconds:.0f} s"
    )
    for problem in report.problems:
        click.echo(f"PROBLEM {problem}")
    click.echo("all held" if not report.problems else f"{len(report.problems)} problems; seed {seed}")
    if keep or report.problems:
        click.echo(f"kept: {folder}")
    else:
        shutil.rmtree(folder)
    sys.exit(1 if report.problems else 0)


if __name__ == "__main__":
    main()
