"""The form of a job type: one field under the other, each with its note or what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.widget import Widget
from textual.widgets import Input, TextArea

from jobdeck_tui.fields import Field, Kind, Reading, read_form
from jobdeck_tui.render.spans import Line, fit, safe
from jobdeck_tui.widgets.choice import Choice
from jobdeck_tui.widgets.line_bar import LineBar

_LABEL_CELLS = 20


class FormField(Widget):
    """Label, editor, and below them a note that gives way to an error."""

    DEFAULT_CSS = f"""
    FormField {{ height: auto; width: 1fr; }}
    ParamsForm {{ scrollbar-size-vertical: 1; }}
    FormField > Horizontal {{ height: auto; }}
    FormField .label {{ width: {_LABEL_CELLS}; }}
    FormField TextArea {{ height: auto; max-height: 5; width: 1fr; }}
    FormField Input {{ width: 1fr; }}
    """

    def __init__(self, field: Field) -> None:
        super().__init__()
        self.field = field
        self._error = ""
        self._has_keys = False
        self._editor = self._make_editor()

    def compose(self) -> ComposeResult:
        with Horizontal():
            label = LineBar(self._label)
            label.add_class("label")
            yield label
            yield self._editor
        yield LineBar(self._note)

    def _make_editor(self) -> Choice | TextArea | Input:
        field = self.field
        if field.kind is Kind.CHOICE:
            return Choice(list(field.choices), field.initial)
        if field.kind is Kind.JSON:
            return TextArea(field.initial, compact=True, soft_wrap=True, tab_behavior="focus")
        return Input(field.initial, compact=True, select_on_focus=False)

    def _label(self, width: int) -> Line:
        cursor = ">" if self._has_keys else " "
        mark = "*" if self.field.required else " "
        return ((cursor, "key"), (mark, "warn"), (fit(safe(self.field.name), width - 3) + " ", "strong"))

    def _note(self, width: int) -> Line:
        indent = (" " * _LABEL_CELLS, "text")
        if self._error:
            return (indent, (f"! {safe(self._error)}", "bad"))
        return (indent, (safe(self.field.note), "dim"))

    def on_descendant_focus(self) -> None:
        self._mark_keys(True)

    def on_descendant_blur(self) -> None:
        self._mark_keys(False)

    def _mark_keys(self, here: bool) -> None:
        self._has_keys = here
        self.query(LineBar).first().update()

    @property
    def editor(self) -> Choice | TextArea | Input:
        """The widget that is edited."""
        return self._editor

    @property
    def text(self) -> str:
        """What stands in the field."""
        editor = self.editor
        return editor.text if isinstance(editor, TextArea) else editor.value

    @property
    def error(self) -> str:
        """What is wrong with it; empty where nothing is."""
        return self._error

    def mark(self, error: str) -> None:
        """Show what is wrong, or the note again."""
        self._error = error
        self.query(LineBar).last().update()


class ParamsForm(VerticalScroll, can_focus=False):
    """Fields for the params, then those every run may have."""

    def __init__(self, params: Sequence[Field], options: Sequence[Field]) -> None:
        super().__init__()
        self._params = params
        self._options = options
        self._last: Widget | None = None

    def compose(self) -> ComposeResult:
        for field in self._params:
            yield FormField(field)
        if not self._params:
            yield LineBar(lambda _width: ((" takes no params", "dim"),))
        yield LineBar(lambda _width: (("options of the run", "head"),))
        for field in self._options:
            yield FormField(field)

    @property
    def _rows(self) -> list[FormField]:
        return list(self.query(FormField))

    def read(self) -> tuple[Reading, Reading, Mapping[str, str]]:
        """Params, options, and the options as text; every error is shown at its field, the first one gets the focus."""
        rows = self._rows
        split = len(self._params)
        params = read_form(self._params, {row.field.name: row.text for row in rows[:split]})
        texts = {row.field.name: row.text for row in rows[split:]}
        options = read_form(self._options, texts)
        self._mark(rows[:split], params.errors)
        self._mark(rows[split:], options.errors)
        self._focus_first_error()
        return params, options, {name: texts[name].strip() for name in options.values}

    def refuse(self, params: Mapping[str, str], options: Mapping[str, str]) -> None:
        """Show at their fields what the client refused."""
        split = len(self._params)
        self._mark(self._rows[:split], params)
        self._mark(self._rows[split:], options)
        self._focus_first_error()

    @staticmethod
    def _mark(rows: Sequence[FormField], errors: Mapping[str, str]) -> None:
        for row in rows:
            row.mark(errors.get(row.field.name, ""))

    def _focus_first_error(self) -> None:
        wrong = next((row for row in self._rows if row.error), None)
        if wrong is not None:
            wrong.editor.focus()
            self.scroll_to_widget(wrong, animate=False)

    @property
    def holder(self) -> Widget | None:
        """The editor that has the keys, or else is the first to get them."""
        rows = self._rows
        current = next((row.editor for row in rows if row.editor is self._last), None)
        return current or (rows[0].editor if rows else None)

    def step(self, delta: int) -> None:
        """The next or previous field; stays at the ends."""
        rows = self._rows
        current = next((n for n, row in enumerate(rows) if row.editor.has_focus), -delta)
        rows[max(0, min(current + delta, len(rows) - 1))].editor.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self.step(1)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        row = next((row for row in self._rows if row.editor is event.widget), None)
        self._last = event.widget
        if row is not None:
            self.scroll_to_widget(row, animate=False)
