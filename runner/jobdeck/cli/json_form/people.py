"""Teams, projects, members and the audit as JSON."""

from __future__ import annotations

from jobdeck.audit import AuditEntry, AuditReport
from jobdeck.cli.json_form.values import Json, iso
from jobdeck.ids import show_id
from jobdeck.model import (
    Project,
    Team,
)
from jobdeck.people import PERMISSIONS, Member


def team_json(team: Team) -> Json:
    """A team."""
    created = iso(team.created_at)
    return {"id": show_id("team", team.id), "slug": team.slug, "name": team.name, "created_at": created}


def project_json(project: Project) -> Json:
    """A project."""
    return {
        "id": show_id("project", project.id),
        "slug": project.slug,
        "name": project.name,
        "team_id": show_id("team", project.team_id),
        "created_at": iso(project.created_at),
    }


def member_json(member: Member) -> Json:
    """A member of a team."""
    return {
        "actor": member.actor,
        "role": member.role,
        "permissions": sorted(PERMISSIONS[member.role]),
        "added_at": iso(member.added_at),
        "added_by": member.added_by,
    }


def audit_json(entry: AuditEntry) -> Json:
    """An act as the audit has it."""
    return {
        "id": entry.id,
        "at": iso(entry.at),
        "actor": entry.actor,
        "session_user": entry.session_user,
        "action": entry.action,
        "outcome": entry.outcome,
        "code": entry.code,
        "count": entry.count,
        "targets": list(entry.targets),
        "reason": entry.reason,
        "before": entry.before,
        "after": entry.after,
    }


def audit_report_json(report: AuditReport) -> Json:
    """Whether the audit is whole."""
    return {
        "ok": report.ok,
        "rows": report.rows,
        "unsealed": report.unsealed,
        "seals": report.seals,
        "head": report.head,
        "faults": [{"seal": fault.seal, "text": fault.text} for fault in report.faults],
    }
