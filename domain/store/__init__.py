"""The SQL store: tables, sessions, every SELECT, migrations."""
