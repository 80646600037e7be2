#!/bin/sh
# Starts the broker; the first time it makes the file of accounts, with one account that may make the others.
# What these are: `brewair admin devices setup` (README.md). There is no default password.
set -eu
accounts=/mosquitto/data/dynamic-security.json
if [ ! -s "$accounts" ]; then
    rm -f "$accounts"
    mosquitto_ctrl dynsec init "$accounts" service.admin "$(cat /run/secrets/broker_admin_password)"
    if [ "$(id -u)" = 0 ]; then
        chown mosquitto:mosquitto "$accounts" # the broker itself is not root
    fi
fi
exec mosquitto -c /mosquitto/config/mosquitto.conf
