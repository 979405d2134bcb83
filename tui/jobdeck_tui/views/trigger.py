"""Trigger a run: choose a job type, fill in the form made from its params."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from textual.app import ComposeResult
from textual.widget import Widget

from jobdeck.model import JobType
from jobdeck_tui.actions import FORM, PICK, Action
from jobdeck_tui.fields import OPTIONS, fields_of, refusals
from jobdeck_tui.messages import Changed, TriggerRefused, TypesRead
from jobdeck_tui.render.spans import Line, fit, safe
from jobdeck_tui.shell import Order, Shell, Visit
from jobdeck_tui.views.base import View
from jobdeck_tui.widgets.keys import bindings_of
from jobdeck_tui.widgets.line_bar import LineBar
from jobdeck_tui.widgets.params_form import ParamsForm
from jobdeck_tui.widgets.pick_list import Item, PickList


class TriggerView(View):
    """First the job types, then the form of the chosen one."""

    BINDINGS = bindings_of((*FORM, *(action for action in PICK if action.id == "back")))

    def __init__(self, shell: Shell, *, id: str) -> None:
        super().__init__(shell, id=id)
        self.types: Sequence[JobType] = ()
        self._kind: JobType | None = None
        self._wanted: tuple[str, Mapping[str, Any]] | None = None
        self._problem = ""

    def compose(self) -> ComposeResult:
        yield LineBar(self._head, id="trigger-head")
        yield LineBar(self._second, id="trigger-note")
        yield PickList(id="types")

    @property
    def hints(self) -> tuple[Action, ...]:  # type: ignore[override]  # depends on which half is shown
        return PICK if self._kind is None else FORM

    @property
    def form(self) -> ParamsForm | None:
        """The form, once a type is chosen."""
        found = self.query(ParamsForm)
        return found.first() if found else None

    def enter(self, visit: Visit) -> None:
        if visit.view != self.id:
            # Coming back (from the help): what was typed stays.
            self.take_keys()
            return
        self._wanted = None
        if visit.prefill and visit.run is not None:
            params = visit.run.params
            self._wanted = (visit.run.job_type, params if isinstance(params, Mapping) else {})
        self._kind, self._problem = None, ""
        self.query(ParamsForm).remove()
        self.query_one(PickList).note = (("   reading …", "dim"),)
        self.query_one(PickList).display = True
        self.shell.feed.load_types()
        self.take_keys()
        self._refresh()

    def holder(self) -> Widget | None:
        return self.query_one(PickList) if self._kind is None else self.form and self.form.holder

    # Lines

    def _head(self, _width: int) -> Line:
        if self._kind is None:
            return ((" trigger: choose a job type", "head"),)
        return (
            (" trigger ", "dim"),
            (safe(self._kind.name), "strong"),
            (f"  {safe(self._kind.title)}", "text"),
        )

    def _second(self, _width: int) -> Line:
        if self._problem:
            return ((f" ! {safe(self._problem)}", "bad"),)
        if self._kind is None:
            return ()
        if self._kind.live_workers == 0:
            return ((" ! no live worker takes this type: the run would wait", "warn"),)
        return ((f" {safe(self._kind.description)}", "dim"),)

    def _refresh(self) -> None:
        for bar in ("#trigger-head", "#trigger-note"):
            self.query_one(bar, LineBar).update()
        self.post_message(Changed())

    # Answers of the feed

    def on_types_read(self, message: TypesRead) -> None:
        """The job types; those of the system are not triggered by hand."""
        message.stop()
        types = self.types = message.types
        items = [Item(kind.name, _type_line(kind)) for kind in types if kind.scope != "system"]
        picker = self.query_one(PickList)
        picker.note = (("   No job types yet: start a worker with: jobdeck runner", "text"),)
        picker.show(items)
        if self._wanted is not None:
            name, params = self._wanted
            self._wanted = None
            self._open_form(name, params)

    def on_pick_list_picked(self, message: PickList.Picked) -> None:
        message.stop()
        self._open_form(message.key, {})

    def _open_form(self, name: str, given: Mapping[str, Any]) -> None:
        kind = next((kind for kind in self.types if kind.name == name), None)
        if kind is None:
            self.shell.tell(f"no job type {safe(name)} is registered", bad=True)
            return
        self._kind, self._problem = kind, ""
        self.query_one(PickList).display = False
        form = ParamsForm(fields_of(kind.schema, given), OPTIONS)
        # Until the form is there, keys go nowhere.
        self.screen.set_focus(None)
        self.mount(form)
        self.call_after_refresh(self.take_keys)
        self._refresh()

    def on_trigger_refused(self, message: TriggerRefused) -> None:
        """The client made no run: say why, at the fields it is about."""
        message.stop()
        error = message.error
        self._problem = error.message
        if self.form is not None and self._kind is not None:
            names = [field.name for field in fields_of(self._kind.schema)]
            about = getattr(error, "field", None)
            options = {about: error.message} if about in {field.name for field in OPTIONS} else {}
            self.form.refuse({} if options else refusals(error.message, names), options)
        self._refresh()

    # Actions

    def action_submit(self) -> None:
        if self.form is None or self._kind is None:
            return
        params, options, shown = self.form.read()
        wrong = len(params.errors) + len(options.errors)
        self._problem = f"{wrong} field{'s' if wrong != 1 else ''} to correct" if wrong else ""
        self._refresh()
        if not wrong:
            self.shell.order(Order(self._kind.name, params.values, options.values, shown))

    def action_next_field(self) -> None:
        if self.form is not None:
            self.form.step(1)

    def action_previous_field(self) -> None:
        if self.form is not None:
            self.form.step(-1)


def _type_line(kind: JobType) -> Line:
    said = safe(kind.description or kind.title)
    live = ("no worker ", "warn") if kind.live_workers == 0 else (f"{kind.live_workers} live    "[:10], "dim")
    return (
        (f" {fit(safe(kind.name), 20)} ", "strong"),
        (fit(safe(kind.category), 10) + " ", "dim"),
        live,
        (f" {said}", "text"),
    )
