"""From the wire to durable, decoded readings."""
