"""The database itself refuses what the desk never does: a state nobody wrote down, a closing without proof, a rewritten repair.

- ``ticket.state`` changes only with the version's next step and after a journal row that says so: the ticket's newest row with a
  state must lead from the old one to the new one. The desk writes that row first, in the same transaction.
- It becomes ``closed`` only if a verdict Passed that counts (not void, of a run begun after the last repair) is sealed, or a
  waiver after the last repair stands on the ticket and in the journal.
- A row of ``repair`` is never updated (and, since 0001, never deleted). A run's purpose stays.

This guards against slips and single statements typed into a console, not against somebody who writes a journal row to match.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

UNTOLD = """
OLD.state <> NEW.state AND (NEW.version <> OLD.version + 1 OR NOT EXISTS (
    SELECT 1 FROM journal WHERE from_state = OLD.state AND to_state = NEW.state AND id = (
        SELECT max(id) FROM journal WHERE ticket_id = NEW.id AND to_state <> ''
    )
))
"""
UNPROVED = """
NEW.state = 'closed' AND OLD.state <> 'closed' AND NOT EXISTS (
    SELECT 1 FROM verdict JOIN test_run ON test_run.id = verdict.run_id
    WHERE test_run.ticket_id = NEW.id AND test_run.voided_at IS NULL AND verdict.outcome = 'passed'
    AND (NEW.last_repair_at IS NULL OR test_run.started_at >= NEW.last_repair_at)
) AND NOT (
    NEW.waived_at IS NOT NULL AND (NEW.last_repair_at IS NULL OR NEW.waived_at >= NEW.last_repair_at)
    AND EXISTS (SELECT 1 FROM journal WHERE ticket_id = NEW.id AND action = 'waive')
)
"""
REFUSED: dict[str, tuple[str, str]] = {
    "ticket_state_is_told": ("ticket", UNTOLD),
    "ticket_closes_proved": ("ticket", UNPROVED),
    "repair_refuses_update": ("repair", "1 = 1"),
    "test_run_keeps_its_purpose": ("test_run", "OLD.purpose <> NEW.purpose"),
}
"""Trigger → table, and which update of it is refused."""


def upgrade() -> None:
    for name, (table, wrong) in REFUSED.items():
        if op.get_bind().dialect.name == "postgresql":  # whose WHEN knows no subquery
            op.execute(f"""
                CREATE FUNCTION brewair_{name}() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN
                    IF {wrong} THEN
                        RAISE EXCEPTION '{table} may not be changed' USING ERRCODE = 'integrity_constraint_violation';
                    END IF;
                    RETURN NEW;
                END
                $$
            """)
            op.execute(f"CREATE TRIGGER {name} BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION brewair_{name}()")
        else:
            refusal = f"SELECT RAISE(ABORT, '{table} may not be changed')"
            op.execute(f"CREATE TRIGGER {name} BEFORE UPDATE ON {table} WHEN {wrong} BEGIN {refusal}; END")


def downgrade() -> None:
    for name, (table, _wrong) in REFUSED.items():
        if op.get_bind().dialect.name == "postgresql":
            op.execute(f"DROP TRIGGER {name} ON {table}")
            op.execute(f"DROP FUNCTION brewair_{name}()")
        else:
            op.execute(f"DROP TRIGGER {name}")
