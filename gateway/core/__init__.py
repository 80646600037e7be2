"""The compiled path of the gateway: the ordinary message, and only that."""
