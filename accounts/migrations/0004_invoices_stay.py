"""The database itself refuses to change or delete an invoice or one of its lines."""

from django.db import migrations

FORWARD = """
CREATE FUNCTION accounts_invoice_stays() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND TG_TABLE_NAME = 'accounts_invoice' THEN
        IF to_jsonb(NEW) - 'settled_at' = to_jsonb(OLD) - 'settled_at' AND OLD.settled_at IS NULL THEN
            RETURN NEW;
        END IF;
    END IF;
    RAISE EXCEPTION 'an invoice never changes: %', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER invoice_stays BEFORE UPDATE OR DELETE ON accounts_invoice
    FOR EACH ROW EXECUTE FUNCTION accounts_invoice_stays();
CREATE TRIGGER invoice_line_stays BEFORE UPDATE OR DELETE ON accounts_invoiceline
    FOR EACH ROW EXECUTE FUNCTION accounts_invoice_stays();
"""
BACKWARD = """
DROP TRIGGER invoice_line_stays ON accounts_invoiceline;
DROP TRIGGER invoice_stays ON accounts_invoice;
DROP FUNCTION accounts_invoice_stays();
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0003_billing")]

    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
