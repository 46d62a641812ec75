"""Verbs that keep the mesh running: services, pages, observation, upkeep, tests of the platform itself."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from mesh_pipelines.cli.output import Format, Output, record
from mesh_pipelines.cli.program import Group, OneProduct, OutputFormat, Products, chosen, fqn, platform, settings, verb
from mesh_pipelines.errors import UsageError


@verb(Group.OPERATE, example="mesh up --services")
def up(
    services: Annotated[bool, typer.Option("--services", help="Only Kafka and the schema registry.")] = False,
) -> None:
    """Start Kafka, the schema registry, Dagster and the portal on this machine, until Ctrl-C."""
    from mesh_pipelines.cli.stage import run_up

    raise typer.Exit(run_up(settings(), Output(), services_only=services))


@verb(Group.OPERATE, example="mesh demo --once", fails="a contract of the demo has faults, or a change is refused")
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="Replay January, publish it, print the products and stop.")
    ] = False,
    speed: Annotated[
        float | None, typer.Option(min=0.001, help="Seconds of 2013 per second; default: as fast as possible.")
    ] = None,
) -> None:
    """Run the demo mesh: services, Dagster, the portal, contracts, and New York's flights of 2013."""
    from mesh_pipelines.cli.stage import run_demo

    raise typer.Exit(run_demo(settings(), Output(), once=once, speed=speed))


@verb(Group.OPERATE, example="mesh portal --no-observe")
def portal(
    observe: Annotated[
        bool, typer.Option("--observe/--no-observe", help="Also observe the mesh, so no other process has to.")
    ] = True,
    link: Annotated[bool, typer.Option("--link", help="Only print a sign-in link that works for an hour.")] = False,
) -> None:
    """Serve the web portal: catalog, quality dashboard, service levels, JSON API, until Ctrl-C."""
    from mesh_pipelines.cli.stage import run_portal

    raise typer.Exit(run_portal(settings(), Output(), observe=observe, link_only=link))


@verb(Group.OPERATE, example="mesh observe --watch", fails="an objective is not met, or a product is not healthy")
def observe(
    watch: Annotated[bool, typer.Option("--watch", help="Keep observing until Ctrl-C.")] = False,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Measure every promised service level, note incidents, and tell owners; once, or every MESH_OBSERVE_INTERVAL_S."""
    from mesh_pipelines.cli.observing import run_observe

    raise typer.Exit(run_observe(settings(), platform, Output(output_format), watch=watch))


@verb(Group.OPERATE, example="mesh doctor")
def doctor(
    security: Annotated[
        bool, typer.Option("--security", help="Name what is open: listeners, files, sign-in, secrets.")
    ] = False,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Check the installation: libraries, how landing works, and whether broker, registry and catalog answer."""
    from mesh_pipelines.observe.doctor import doctor as step
    from mesh_pipelines.observe.exposure import exposure
    from mesh_pipelines.web.security import is_loopback

    output = Output(output_format)
    found = exposure(settings(), is_loopback) if security else step(platform())
    findings = [record(one) for one in found]
    output.records(findings, ("what", "found", "next_step"))
    wrong = [one["what"] for one in findings if one["next_step"]]
    if wrong:
        output.say(f"{'open' if security else 'something is wrong with'}: {', '.join(wrong)}")
        raise typer.Exit(3)
    output.say("nothing is open" if security else "everything is ready; next: mesh status")


@verb(Group.OPERATE, example="mesh tag insights.punctuality 12 report-2013")
def tag(
    name: OneProduct,
    version: Annotated[int, typer.Argument(min=0, help="A published version; 0 removes the tag.")],
    label: Annotated[str, typer.Argument(help="The tag: letters, digits, dots, dashes and underscores.")],
    move: Annotated[bool, typer.Option("--move", help="Move the tag if another version has it.")] = False,
) -> None:
    """Keep a version under a name, so that upkeep never removes it; `mesh tag PRODUCT 0 NAME` ends that."""
    output, mesh = Output(), platform()
    product = mesh.product(fqn(name))
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", label):
        raise UsageError(
            f"a tag must be a name, got {label!r}", next_step="use up to 64 letters, digits, dots, dashes, underscores"
        )
    versions = mesh.tables_of(product).versions
    if version:
        versions.tag(version, label, move=move)
        output.say(f"version {version} of {product.fqn} is kept as {label}")
    else:
        versions.untag(label)
        output.say(f"{product.fqn} no longer has the tag {label}")


@verb(Group.OPERATE, example="mesh compact operations.flights")
def compact(names: Products = None, output_format: OutputFormat = Format.TABLE) -> None:
    """Merge small files of the logs; every version reads the same as before."""
    from mesh_pipelines.repair.upkeep import compact as step

    output, mesh = Output(output_format), platform()
    done = [record(step(mesh, product)) for product in chosen(mesh, names)]
    output.records(done, ("product", "files_before", "files_after", "seconds"))
    output.say(f"{sum(one['files_before'] - one['files_after'] for one in done)} fewer files; next: mesh expire")


@verb(Group.OPERATE, example="mesh expire --keep 5")
def expire(
    names: Products = None,
    keep: Annotated[int, typer.Option(min=1, help="Versions of derived products whose rows are kept.")] = 20,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Drop table snapshots and files that no kept version needs."""
    from mesh_pipelines.repair.upkeep import expire as step

    output, mesh = Output(output_format), platform()
    done = [record(step(mesh, product, keep)) for product in chosen(mesh, names)]
    output.records(done, ("product", "snapshots_expired", "files_removed", "seconds"))
    output.say(f"{sum(one['snapshots_expired'] for one in done)} snapshots dropped")


@verb(Group.OPERATE, example="mesh selftest kills zombie --rounds 1000 --seed 7", fails="a promise was broken")
def selftest(
    faults: Annotated[list[str] | None, typer.Argument(help="Names of faults; default: all of them.")] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="How often to kill the working process; other faults scale with it.")
    ] = 100,
    seed: Annotated[
        int | None, typer.Option(help="The seed of an earlier run, to repeat it; default: a new one.")
    ] = None,
    bootstrap_servers: Annotated[
        str | None, typer.Option(help="Test against this broker, on topics made for the test.")
    ] = None,
    output_format: OutputFormat = Format.TABLE,
) -> None:
    """Inject faults and compare what landed and what is published with a ledger of what was produced.

    Without --bootstrap-servers it starts its own broker in a temporary folder, and kills that one, too.
    """
    from mesh_pipelines.cli.trial import run_selftest

    output = Output(output_format)
    raise typer.Exit(run_selftest(output, faults or (), rounds=rounds, seed=seed, bootstrap_servers=bootstrap_servers))
