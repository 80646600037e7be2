"""The brewair command."""
