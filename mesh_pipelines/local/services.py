"""Apache Kafka (KRaft, one node) and Apicurio Registry on loopback, for demos and tests; not for production.

All state lies under the home folder: Kafka's log, and the registry's schemas with their ids in an H2 file. Keeping
schemas in Kafka was ruled out (the registry would wait for the broker, and start three seconds later); registering
them again from the contracts was, too, since events on the topics name schemas of producers by their ids.
"""

from __future__ import annotations

import base64
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mesh_pipelines.errors import ServiceFailed
from mesh_pipelines.local.jars import OnFile, fetch, unpack
from mesh_pipelines.local.java import java
from mesh_pipelines.local.supervisor import Child, Supervisor, answers
from mesh_pipelines.local.troubles import identity, is_alive
from mesh_pipelines.settings import Settings

# Small heaps, a collector without threads of its own and no optimising compiler: what starts fastest on two cores.
_JVM = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xss512k", "-Djava.awt.headless=true")
_FORMAT_S = 60


class Services:
    """The local broker and registry of one home folder. Use as a context manager, or ``start`` and ``stop``."""

    def __init__(self, settings: Settings, *, registry: bool = True) -> None:
        """``registry=False`` runs the broker alone."""
        self.settings = settings
        self._with_registry = registry
        self.supervisor = Supervisor()
        self._folder = settings.home / "services"
        self._pid_file = self._folder / "pid"

    def __enter__(self) -> Services:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, on_file: OnFile | None = None, on_stage: Callable[[str], None] | None = None) -> None:
        """Fetch the jars where needed, start both services and wait until both answer.

        Raises:
            DownloadFailed, PortTaken, ServiceFailed: with what to do next.
        """
        self._claim()
        try:
            jars = fetch(self.settings.cache, on_file)
            if on_stage:
                on_stage("starting Kafka and the schema registry")
            kafka = sorted(str(path) for jar, path in jars.items() if jar.service == "kafka")
            children = [self._kafka(kafka)]
            if self._with_registry:
                archive = next(path for jar, path in jars.items() if jar.service == "registry")
                children.append(self._registry(unpack(archive, self.settings.cache)))
            self.supervisor.start(children)
        except BaseException:
            self._release()
            raise

    def stop(self) -> None:
        """Stop both; their data stays."""
        self.supervisor.stop()
        self._release()

    def kill_broker(self) -> None:
        """Kill the broker outright, as a crash of its machine would; ``stop`` and ``start`` bring it back."""
        self.supervisor.kill("Kafka")

    def _claim(self) -> None:
        """Make sure no other process runs the services of this home folder."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            holder = self._pid_file.read_text()
            if holder != identity() and is_alive(holder):
                raise ServiceFailed(
                    f"process {holder.split()[0]} already runs the services of {self.settings.home}",
                    next_step="use those, stop that process, or set MESH_HOME to another folder",
                )
        self._pid_file.write_text(identity())

    def _release(self) -> None:
        self._pid_file.unlink(missing_ok=True)

    def _kafka(self, classpath: list[str]) -> Child:
        settings, folder = self.settings, self._folder / "kafka"
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "server.properties"
        properties = self.broker_properties(folder / "data")
        config.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        logging = folder / "log4j2.yaml"
        logging.write_text(_LOGGING)
        command = [str(java()), *_JVM, "-Xmx512m", f"-Dlog4j2.configurationFile={logging}", "-cp", ":".join(classpath)]
        if not (folder / "data" / "meta.properties").exists():
            self._format(command, config)
        return Child(
            name="Kafka",
            argv=[*command, "kafka.Kafka", str(config)],
            log=settings.home / "logs" / "kafka.log",
            ready=lambda: answers(settings.services_host, settings.kafka_port),
            ports={
                "MESH_KAFKA_PORT": (settings.services_host, settings.kafka_port),
                "MESH_CONTROLLER_PORT": (settings.services_host, settings.controller_port),
            },
        )

    def broker_properties(self, data: Path) -> dict[str, str]:
        """The broker's configuration; ``data`` is the folder of its log."""
        return _kafka_properties(self.settings, data)

    def _format(self, command: list[str], config: Path) -> None:
        # It may begin with a dash, so it is never an argument of its own.
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        done = subprocess.run(
            [*command, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(config)],
            capture_output=True,
            text=True,
            timeout=_FORMAT_S,
            check=False,
        )
        if done.returncode:
            raise ServiceFailed(f"Kafka's storage could not be formatted: {(done.stderr or done.stdout).strip()}")

    def _registry(self, runtime: Path) -> Child:
        settings, folder = self.settings, self._folder / "registry"
        folder.mkdir(parents=True, exist_ok=True)
        jar = next(runtime.rglob("quarkus-run.jar"))
        health = f"http://{settings.services_host}:{settings.registry_port}/apis/ccompat/v7/subjects"
        return Child(
            name="the schema registry",
            argv=[str(java()), *_JVM, "-Xmx256m", "-jar", str(jar)],
            log=settings.home / "logs" / "registry.log",
            env={
                "QUARKUS_HTTP_HOST": settings.services_host,
                "QUARKUS_HTTP_PORT": str(settings.registry_port),
                # Its management interface would take port 9000 on all addresses; any free one on loopback will do.
                "QUARKUS_MANAGEMENT_HOST": settings.services_host,
                "QUARKUS_MANAGEMENT_PORT": "0",
                "APICURIO_STORAGE_KIND": "sql",
                "APICURIO_STORAGE_SQL_KIND": "h2",
                "APICURIO_DATASOURCE_URL": f"jdbc:h2:file:{folder / 'schemas'};DB_CLOSE_ON_EXIT=FALSE",
                "QUARKUS_LOG_LEVEL": "WARN",
                "QUARKUS_LOG_CONSOLE_JSON": "false",
                "QUARKUS_LOG_CONSOLE_JSON_ENABLED": "false",
            },
            ready=lambda: _is_ok(health),
            ports={"MESH_REGISTRY_PORT": (settings.services_host, settings.registry_port)},
        )


def _is_ok(url: str) -> bool:
    with suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, timeout=2) as answer:
        return answer.status == 200
    return False


def _kafka_properties(settings: Settings, data: Path) -> dict[str, str]:
    listeners = f"PLAINTEXT://{settings.services_host}:{settings.kafka_port},CONTROLLER://{settings.services_host}:{settings.controller_port}"
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{settings.services_host}:{settings.controller_port}",
        "listeners": listeners,
        "advertised.listeners": f"PLAINTEXT://{settings.services_host}:{settings.kafka_port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "num.partitions": "1",
        "default.replication.factor": "1",
        "min.insync.replicas": "1",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        "log.message.timestamp.before.max.ms": str(2**63 - 1),
        "log.segment.delete.delay.ms": "1000",
        "log.cleaner.dedupe.buffer.size": str(32 * 1024 * 1024),
    }


_LOGGING = """\
Configuration:
  Appenders:
    Console: {name: out, PatternLayout: {pattern: "%d %p %m (%c)%n"}}
  Loggers:
    Root: {level: WARN, AppenderRef: {ref: out}}
"""
