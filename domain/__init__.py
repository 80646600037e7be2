"""The shared language of brewair; imports no program and no web or MQTT framework."""

__version__ = "0.1.0"
