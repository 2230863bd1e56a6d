"""The configuration: one YAML file, overridden by the environment, as a few frozen models.

`DETECTOR_SECTION__FIELD` in the environment replaces `section: field:` of the file. `kafka:` takes librdkafka's own properties under
their dotted names, `schema_registry:` those of confluent-kafka's registry client.
"""

from detector.config.loading import load_config
from detector.config.sections import Alertmanager, Config, FileInput, Input, LongFormat, Service

__all__ = ["Alertmanager", "Config", "FileInput", "Input", "LongFormat", "Service", "load_config"]
