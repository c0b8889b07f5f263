"""A real Apache Kafka, one KRaft node on loopback, from its Maven artifacts; it ends with its test and with its parent."""

import base64
import contextlib
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from tests.certificates import Authority
from tests.integration.child import maven_jars
from tests.ports import free_port

ARTIFACTS = ("org.apache.kafka:kafka_2.13:4.4.0", "org.slf4j:slf4j-nop:1.7.36")
USER, PASSWORD = "streamer", "the-password"
UP_S = 60
LOGIN = {"mechanism": "SCRAM-SHA-256", "username": USER, "password": PASSWORD}
MODULES = "org.apache.kafka.common.security"
SPAWNER = ThreadPoolExecutor(1)
"""The kernel ends a child with the thread that made it, so that thread must live as long as this process."""
JAVA = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


@dataclass
class Kafka:
    """One broker; `kill` and `start` keep its data and its ports."""

    folder: Path
    authority: Authority
    process: subprocess.Popen[bytes] | None = None
    ports: list[int] = field(default_factory=lambda: [free_port() for _ in range(6)])

    @property
    def servers(self) -> str:
        """Without TLS and login; the superuser."""
        return f"127.0.0.1:{self.ports[0]}"

    @property
    def sasl_servers(self) -> str:
        """TLS, and a login by any mechanism."""
        return f"localhost:{self.ports[1]}"

    @property
    def tls_servers(self) -> str:
        """TLS that asks for a client's certificate."""
        return f"localhost:{self.ports[2]}"

    @property
    def relay(self) -> tuple[int, int]:
        """The port that clients are told to use, where a test may listen, and the port of the broker behind it. It takes LOGIN."""
        return self.ports[3], self.ports[4]

    def format(self) -> None:
        certificate, key = self.authority.issue("broker")
        (self.folder / "broker.keystore.pem").write_bytes(key.read_bytes() + certificate.read_bytes())
        (self.folder / "server.properties").write_text("\n".join(f"{k}={v}" for k, v in self._properties().items()))
        scram = [f"--add-scram=SCRAM-SHA-{n}=[name={USER},password={PASSWORD}]" for n in (256, 512)]
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        self._java("kafka.tools.StorageTool", "format", "-t", cluster, "-c", "server.properties", *scram).wait(60)

    def _properties(self) -> dict[str, object]:
        plain, sasl, tls, relayed, relay, controller = self.ports
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{sasl},SSL://127.0.0.1:{tls},"
            f"RELAY://127.0.0.1:{relay},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{plain},SASL_SSL://localhost:{sasl},SSL://localhost:{tls},"
            f"RELAY://127.0.0.1:{relayed}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL,RELAY:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self.folder / "data",
            "auto.create.topics.enable": "false",
            "offsets.topic.num.partitions": 1,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            "broker.session.timeout.ms": 2000,
            "broker.heartbeat.interval.ms": 500,
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "true",
            "super.users": "User:ANONYMOUS",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": self.folder / "broker.keystore.pem",
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.authority.file,
            "listener.name.ssl.ssl.client.auth": "required",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
            **{
                f"listener.name.{listener}.{mechanism}.sasl.jaas.config": f"{MODULES}.{module} required {settings};"
                for listener in ("sasl_ssl", "relay")
                for mechanism, module, settings in (
                    ("plain", "plain.PlainLoginModule", f'user_{USER}="{PASSWORD}"'),
                    ("scram-sha-256", "scram.ScramLoginModule", ""),
                    ("scram-sha-512", "scram.ScramLoginModule", ""),
                    ("oauthbearer", "oauthbearer.OAuthBearerLoginModule", f'unsecuredLoginStringClaim_sub="{USER}"'),
                )
            },
        }

    def _java(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = ["setpriv", "--pdeathsig", "KILL", "java", *JAVA, "-cp", maven_jars("kafka", *ARTIFACTS), *arguments]
        with open(self.folder / "broker.log", "ab") as log:
            return SPAWNER.submit(
                subprocess.Popen, command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            ).result()

    def start(self) -> None:
        """Returns when it answers."""
        assert self.process is None
        self.process = self._java("kafka.Kafka", "server.properties")
        deadline = time.monotonic() + UP_S
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "broker.log").read_text()[-2000:]
            assert time.monotonic() < deadline, f"Kafka did not answer in {UP_S} s"
            time.sleep(0.05)

    def _answers(self) -> bool:
        # librdkafka backs off between attempts to connect: only ask it once somebody listens.
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.ports[0])):
                return False
        try:
            return bool(self.admin().list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    def kill(self) -> None:
        """As a power cut would, but for the page cache."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(30)
            self.process = None

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.servers, "log_level": 0})

    def deny(self, kind: ResourceType, name: str, operation: AclOperation) -> AclBinding:
        """USER may no longer do that to this one."""
        rule = AclBinding(
            kind, name, ResourcePatternType.LITERAL, f"User:{USER}", "*", operation, AclPermissionType.DENY
        )
        admin = self.admin()
        admin.create_acls([rule])[rule].result(30)
        return rule

    def allow(self, rule: AclBinding) -> None:
        """Take a denial back."""
        found = AclBindingFilter(
            rule.restype, rule.name, rule.resource_pattern_type, None, None, AclOperation.ANY, AclPermissionType.DENY
        )
        admin = self.admin()
        admin.delete_acls([found])[found].result(30)

    def create(self, topic: str, partitions: int = 3, **config: str) -> None:
        admin = self.admin()
        made = admin.create_topics(
            [NewTopic(topic, partitions, 1, config={k.replace("_", "."): v for k, v in config.items()})]
        )
        made[topic].result(30)
        # The controller has made it; now the broker has to take it up.
        consumer = Consumer({"bootstrap.servers": self.servers, "group.id": "none", "log_level": 0})
        deadline = time.monotonic() + UP_S
        for partition in range(partitions):
            while not _is_led(consumer, topic, partition):
                assert time.monotonic() < deadline
                time.sleep(0.02)
        consumer.close()


def _is_led(consumer: Consumer, topic: str, partition: int) -> bool:
    try:
        consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
    except KafkaException:
        return False
    return True


@contextlib.contextmanager
def kafka_broker(folder: Path) -> Iterator[Kafka]:
    """A started broker with an empty data folder under `folder`."""
    os.makedirs(folder, exist_ok=True)
    kafka = Kafka(folder, Authority(folder))
    kafka.format()
    kafka.start()
    try:
        yield kafka
    finally:
        kafka.kill()
