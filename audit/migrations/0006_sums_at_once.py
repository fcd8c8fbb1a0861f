"""Sums that grow by what is new, and kinds of attempts, by which the auth log is found at any size.

Two triggers of AuthEvent, for each statement once: what is stored (or changed, as folded rows are) goes to AuthPending,
from which the rollup takes it; a kind that an organization had not had goes to AuthKind. They fire for a restore and a
bulk load too (ALWAYS). What was stored before is summed here, while the table is locked.
"""

from django.db import migrations, models

from audit.models import Reason, Result

MECHANISMS = "'', 'PLAIN', 'LOGIN', 'SCRAM-SHA-256', 'SCRAM-SHA-256-PLUS', 'OAUTHBEARER', 'XOAUTH2', 'CRAM-MD5'"

FUNCTIONS = f"""
    CREATE FUNCTION audit_known_mechanism(mechanism text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT CASE WHEN mechanism IN ({MECHANISMS}) THEN mechanism ELSE '?' END
    $$;
    CREATE FUNCTION audit_kind(result text, reason text, mechanism text, tls_version text)
    RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
        SELECT ('x' || left(md5(result || ' ' || reason || ' ' || CASE WHEN mechanism IN ({MECHANISMS}) THEN mechanism
            ELSE '?' END || ' ' || tls_version), 8))::bit(32)::integer
    $$;
    CREATE FUNCTION audit_authevent_stored() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO audit_authkind (organization_id, kind, result, reason, mechanism, tls_version)
        SELECT DISTINCT coalesce(organization_id, 0), kind, result, reason, audit_known_mechanism(mechanism), tls_version
        FROM stored ORDER BY 1, 2 ON CONFLICT DO NOTHING;
        INSERT INTO audit_authpending
            (hour, organization_id, smtp_user_id, ip, result, reason, count, first_at, last_at)
        SELECT date_trunc('hour', at, 'UTC'), organization_id, smtp_user_id, ip, result, reason,
               sum(count), min(coalesce(first_at, at)), max(last_at)
        FROM stored GROUP BY 1, 2, 3, 4, 5, 6;
        RETURN NULL;
    END $$;
    CREATE FUNCTION audit_authevent_changed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO audit_authkind (organization_id, kind, result, reason, mechanism, tls_version)
        SELECT DISTINCT coalesce(organization_id, 0), kind, result, reason, audit_known_mechanism(mechanism), tls_version
        FROM stored ORDER BY 1, 2 ON CONFLICT DO NOTHING;
        INSERT INTO audit_authpending
            (hour, organization_id, smtp_user_id, ip, result, reason, count, first_at, last_at)
        SELECT date_trunc('hour', at, 'UTC'), organization_id, smtp_user_id, ip, result, reason,
               sum(count), min(coalesce(first_at, at)), max(last_at)
        FROM (SELECT at, organization_id, smtp_user_id, ip, result, reason, count, first_at, last_at FROM stored
              UNION ALL
              SELECT at, organization_id, smtp_user_id, ip, result, reason, -count, first_at, last_at FROM before
        ) AS both_versions GROUP BY 1, 2, 3, 4, 5, 6 HAVING sum(count) <> 0;
        RETURN NULL;
    END $$;
"""  # noqa: S608  # a constant of this file
FUNCTIONS_AWAY = """
    DROP FUNCTION audit_authevent_stored; DROP FUNCTION audit_authevent_changed; DROP FUNCTION audit_kind;
    DROP FUNCTION audit_known_mechanism;
"""
COLUMN = """
    ALTER TABLE audit_authevent ADD COLUMN kind integer
    GENERATED ALWAYS AS (audit_kind(result, reason, mechanism, tls_version)) STORED
"""
OLD_INDEXES = ("organization", "smtp_user", "ip", "username")
INDEXES = [
    *(f"DROP INDEX auth_event_{name}" for name in OLD_INDEXES),
    "CREATE INDEX auth_event_organization_kind ON audit_authevent (organization_id, kind, at DESC)",
    "CREATE INDEX auth_event_smtp_user_kind ON audit_authevent (smtp_user_id, kind, at DESC)",
    "CREATE INDEX auth_event_ip_kind ON audit_authevent (ip, organization_id, kind, at DESC)",
    "CREATE INDEX auth_event_username_kind ON audit_authevent (username_given, organization_id, kind, at DESC)",
    "CREATE INDEX auth_event_kind ON audit_authevent (kind, at DESC)",
]
TRIGGERS = """
    CREATE TRIGGER auth_event_stored AFTER INSERT ON audit_authevent
    REFERENCING NEW TABLE AS stored FOR EACH STATEMENT EXECUTE FUNCTION audit_authevent_stored();
    CREATE TRIGGER auth_event_changed AFTER UPDATE ON audit_authevent
    REFERENCING NEW TABLE AS stored OLD TABLE AS before FOR EACH STATEMENT EXECUTE FUNCTION audit_authevent_changed();
    ALTER TABLE audit_authevent ENABLE ALWAYS TRIGGER auth_event_stored;
    ALTER TABLE audit_authevent ENABLE ALWAYS TRIGGER auth_event_changed;
"""
TRIGGERS_AWAY = "DROP TRIGGER auth_event_stored ON audit_authevent; DROP TRIGGER auth_event_changed ON audit_authevent"

# The last run of the rollup that summed whole hours: all that were touched since its mark.
SUMS = """
    WITH touched AS (
        SELECT DISTINCT date_trunc('hour', at, 'UTC') AS hour FROM audit_authevent WHERE stored_at >= coalesce(
            (SELECT done_until FROM audit_rollupmark WHERE name = 'auth_hours'), '-infinity'::timestamptz)
    )
    INSERT INTO audit_authhour (hour, organization_id, smtp_user_id, ip, result, reason, count, first_at, last_at)
    SELECT hour, organization_id, smtp_user_id, ip, result, reason,
           sum(count), min(coalesce(first_at, at)), max(last_at)
    FROM touched JOIN audit_authevent ON at >= hour AND at < hour + interval '1 hour' GROUP BY 1, 2, 3, 4, 5, 6
    ON CONFLICT (hour, organization_id, smtp_user_id, ip, result, reason) DO UPDATE
    SET count = excluded.count, first_at = excluded.first_at, last_at = excluded.last_at;
    INSERT INTO audit_authday (day, organization_id, smtp_user_id, ip, result, reason, count, first_at, last_at)
    SELECT (hour AT TIME ZONE 'UTC')::date, organization_id, smtp_user_id, ip, result, reason,
           sum(count), min(first_at), max(last_at)
    FROM audit_authhour GROUP BY 1, 2, 3, 4, 5, 6;
    INSERT INTO audit_authkind (organization_id, kind, result, reason, mechanism, tls_version)
    SELECT DISTINCT coalesce(organization_id, 0), kind, result, reason, audit_known_mechanism(mechanism), tls_version
    FROM audit_authevent;
"""


class Migration(migrations.Migration):
    dependencies = [("audit", "0005_folding")]

    operations = [
        migrations.CreateModel(
            name="AuthKind",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "organization_id", "kind", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("organization_id", models.BigIntegerField()),
                ("kind", models.IntegerField()),
                ("result", models.CharField(max_length=8)),
                ("reason", models.CharField(max_length=24)),
                ("mechanism", models.CharField(max_length=32)),
                ("tls_version", models.CharField(blank=True, max_length=16)),
            ],
        ),
        migrations.CreateModel(
            name="AuthPending",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("hour", models.DateTimeField()),
                ("organization_id", models.BigIntegerField(null=True)),
                ("smtp_user_id", models.BigIntegerField(null=True)),
                ("ip", models.GenericIPAddressField()),
                ("result", models.CharField(max_length=8)),
                ("reason", models.CharField(max_length=24)),
                ("count", models.BigIntegerField()),
                ("first_at", models.DateTimeField()),
                ("last_at", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="AuthDay",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("day", models.DateField()),
                ("organization_id", models.BigIntegerField(null=True)),
                ("smtp_user_id", models.BigIntegerField(null=True)),
                ("ip", models.GenericIPAddressField()),
                ("result", models.CharField(choices=Result.choices, max_length=8)),
                ("reason", models.CharField(choices=Reason.choices, max_length=24)),
                ("count", models.BigIntegerField()),
                ("first_at", models.DateTimeField()),
                ("last_at", models.DateTimeField()),
            ],
            options={
                "indexes": [
                    models.Index(fields=["organization_id", "-day"], name="auth_day_organization"),
                    models.Index(fields=["ip", "-day"], name="auth_day_ip"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("day", "organization_id", "smtp_user_id", "ip", "result", "reason"),
                        name="auth_day_key",
                        nulls_distinct=False,
                    )
                ],
            },
        ),
        migrations.RunSQL(FUNCTIONS, FUNCTIONS_AWAY),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                *(migrations.RemoveIndex("authevent", f"auth_event_{name}") for name in OLD_INDEXES),
                migrations.AddField(
                    "authevent",
                    "kind",
                    models.GeneratedField(
                        db_persist=True,
                        expression=models.Func("result", "reason", "mechanism", "tls_version", function="audit_kind"),
                        output_field=models.IntegerField(),
                    ),
                ),
                *(
                    migrations.AddIndex("authevent", models.Index(fields=fields, name=name))
                    for name, fields in (
                        ("auth_event_organization_kind", ["organization_id", "kind", "-at"]),
                        ("auth_event_smtp_user_kind", ["smtp_user_id", "kind", "-at"]),
                        ("auth_event_ip_kind", ["ip", "organization_id", "kind", "-at"]),
                        ("auth_event_username_kind", ["username_given", "organization_id", "kind", "-at"]),
                        ("auth_event_kind", ["kind", "-at"]),
                    )
                ),
            ],
            database_operations=[migrations.RunSQL([COLUMN, *INDEXES], migrations.RunSQL.noop)],
        ),
        migrations.RunSQL(TRIGGERS, TRIGGERS_AWAY),
        migrations.RunSQL(SUMS, migrations.RunSQL.noop),
    ]
