"""The configuration: YAML or options -> a frozen Config, or all errors at once with file, line and key.

Owns the file format. Must not know how what it describes is done. Begin at `building.load_config`. Read in this order:

    wording      how a finding speaks
    files        what is read, and what it was like then
    source       YAML -> a tree with lines, strict and bounded
    shapes       what a value may be, as data
    auditing     the keys of where the record goes
    document     the keys, their shapes, their descriptions
    validation   tree -> document, and what is wrong with its shape
    policies     names, extends, selectors -> compiled policies
    matching     what a listener's clients are told apart by
    trails       where the record goes, and what is wrong with it
    model        Config, what the house gets
    building     document -> Config, and what is wrong across it
    schema       the JSON Schema for editors
    testfile     a policy's own tests, which are another kind of file
    writing      a policy -> the text of a commented file
"""

from sockproxy.operating.config.building import check_config, config_from_options, load_config, load_policy
from sockproxy.operating.config.files import Files
from sockproxy.operating.config.model import AuditConfig, Config, ListenerConfig, RecordingsConfig
from sockproxy.operating.config.schema import json_schema
from sockproxy.operating.config.source import UnreadableFile

__all__ = [
    "AuditConfig",
    "Config",
    "Files",
    "ListenerConfig",
    "RecordingsConfig",
    "UnreadableFile",
    "check_config",
    "config_from_options",
    "json_schema",
    "load_config",
    "load_policy",
]
