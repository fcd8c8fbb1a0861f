"""What is unusual in the auth log and in the volume of mail, found, explained and kept as cases.

Shapes  rows.py: what is read. guessing.py, habits.py, volume.py: pure functions over rows that give findings.
        cases.py: findings become rows of Anomaly, one for each continuing case, and raise_alert() for others' alarms.
        watch.py: one run of all of it. words.py: cases in words. hooks.py: who is told.
Source  docs/data.md, Anomaly; docs/operations.md, Alerts.
"""
