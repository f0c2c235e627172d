"""Settings are validated and become the arguments of Kafka clients."""

import ssl

import pytest
from pydantic import ValidationError

from touchpoint.base.errors import UsageError
from touchpoint.base.settings import KafkaSettings, ServiceSettings


def test_kafka_without_tls_and_sasl_needs_only_an_address():
    options = KafkaSettings(bootstrap_servers="kafka.example:9092").client_options()
    assert options == {"bootstrap_servers": "kafka.example:9092", "security_protocol": "PLAINTEXT"}


def test_sasl_over_tls_checks_the_brokers_certificate_and_carries_user_and_password(monkeypatch):
    monkeypatch.setenv("KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("KAFKA_SASL_USERNAME", "touchpoint")
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", "s3cret")
    options = KafkaSettings().client_options()
    assert options["ssl_context"].verify_mode is ssl.CERT_REQUIRED
    assert options["ssl_context"].check_hostname
    assert options["sasl_mechanism"] == "SCRAM-SHA-512"
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("touchpoint", "s3cret")


def test_an_unreadable_certificate_raises_a_usage_error(tmp_path):
    (tmp_path / "ca.pem").write_text("this is no certificate")
    for path in ("/nowhere/ca.pem", str(tmp_path / "ca.pem")):
        with pytest.raises(UsageError, match="KAFKA_SSL_CAFILE"):
            KafkaSettings(security_protocol="SSL", ssl_cafile=path).client_options()


def test_a_password_is_not_shown(monkeypatch):
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", "s3cret")
    assert "s3cret" not in repr(KafkaSettings())


@pytest.mark.parametrize(
    ("name", "value"),
    [("KAFKA_SECURITY_PROTOCOL", "TLS"), ("KAFKA_PARTITIONS", "0"), ("KAFKA_SASL_MECHANISM", "GSSAPI")],
)
def test_an_unusable_setting_is_refused_and_named(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=name.removeprefix("KAFKA_").lower()):
        KafkaSettings()


def test_a_short_token_secret_is_refused():
    with pytest.raises(ValidationError, match="at least 32 characters"):
        ServiceSettings(database_url="postgresql:///x", port=1, admin_port=2, internal_token_secrets=["short"])
