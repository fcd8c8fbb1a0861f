"""Alerts: what was unusual, with its evidence, and the answer "this was me"."""

from datetime import datetime
from typing import Any

from django.db.models import Q
from django.shortcuts import get_object_or_404
from ninja import Field, Router

from audit.anomalies.models import Anomaly, Kind, Severity, State
from relay import alerts
from relay.api.keys import ApiRequest, Scope, actor_of, needs
from relay.api.problems import ProblemError
from relay.api.shapes import PAGE, CursorText, Limit, Listed, Schema, bad_cursor, cursor_of, place_of

router = Router(tags=["Alerts"])
HIDDEN = {"filters", "doubts"}  # of the evidence: what only the pages and the watch read


class AlertOut(Schema):
    id: int
    kind: str = Field(description=f"One of {', '.join(Kind.values)}.")
    severity: str = Field(description=f"One of {', '.join(Severity.values)}.")
    state: str = Field(description=f"One of {', '.join(State.values)}.")
    title: str
    summary: str
    advice: str
    smtp_user_ids: list[int]
    app_password_ids: list[int]
    evidence: dict[str, Any] = Field(description="Figures, addresses and times by name; they depend on the kind.")
    first_at: datetime
    last_at: datetime
    opened_at: datetime
    closed_at: datetime | None
    closed_by: str


@router.get("/alerts", response=Listed[AlertOut], summary="List alerts", **needs(Scope.ALERTS_READ))
def list_alerts(
    request: ApiRequest,
    state: State | None = None,
    kind: Kind | None = None,
    limit: Limit = PAGE,
    cursor: CursorText = "",
) -> Any:
    """The one last seen first."""
    found = alerts.alerts_of(request.auth.organization_id)
    if state is not None:
        found = found.filter(state=state)
    if kind is not None:
        found = found.filter(kind=kind)
    if cursor:
        last_at, pk = _place(cursor)
        found = found.filter(Q(last_at__lt=last_at) | Q(last_at=last_at, pk__lt=pk))
    rows = list(found[: limit + 1])
    more = cursor_of(rows[limit - 1].last_at.isoformat(), rows[limit - 1].pk) if len(rows) > limit else None
    return {"items": [_out(row) for row in alerts.rows_of(rows[:limit])], "next_cursor": more}


@router.get("/alerts/{int:id}", response=AlertOut, summary="Get an alert", **needs(Scope.ALERTS_READ))
def get_alert(request: ApiRequest, id: int) -> Any:
    return _out(alerts.rows_of([_own(request, id)])[0])


@router.post("/alerts/{int:id}/dismiss", response=AlertOut, summary="This was me", **needs(Scope.ALERTS_WRITE))
def dismiss_alert(request: ApiRequest, id: int) -> Any:
    """What was unusual is known from now on, and the same is not told again. 409 if the alert is closed already."""
    anomaly = _own(request, id)
    try:
        alerts.this_was_me(anomaly, actor=actor_of(request))
    except alerts.AlertRefused as refused:
        raise ProblemError("conflict", " ".join(refused.messages)) from None
    anomaly.refresh_from_db()
    return _out(alerts.rows_of([anomaly])[0])


def _own(request: ApiRequest, id: int) -> Anomaly:
    return get_object_or_404(Anomaly, organization_id=request.auth.organization_id, pk=id)


def _place(cursor: str) -> tuple[datetime, int]:
    match place_of(cursor):
        case [str(last_at), int(pk)]:
            try:
                at = datetime.fromisoformat(last_at)
            except ValueError:
                raise bad_cursor() from None
            if at.tzinfo is None:
                raise bad_cursor()
            return at, pk
        case _:
            raise bad_cursor()


def _out(row: alerts.AlertRow) -> dict[str, Any]:
    names = "id kind severity state smtp_user_ids app_password_ids first_at last_at opened_at closed_at closed_by"
    return {
        **{name: getattr(row.anomaly, name) for name in names.split()},
        "title": row.told.title,
        "summary": row.told.summary,
        "advice": row.told.advice,
        "evidence": {name: value for name, value in row.anomaly.evidence.items() if name not in HIDDEN},
    }
