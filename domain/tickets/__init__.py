"""Tickets: states, actions, guards, deadlines, ranking; pure."""
