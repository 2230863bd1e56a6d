"""A streaming anomaly detector over Kafka sensor data: one LSTM memory per stream, alerts to a topic, metrics to Prometheus."""

__version__ = "0.1.0"
