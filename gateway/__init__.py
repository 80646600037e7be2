"""The MQTT gateway: from a PUBLISH to a stored reading and an open ticket."""
