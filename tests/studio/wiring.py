"""The page's events without a browser: components' values in a dictionary, listeners called as Gradio calls them.

What Gradio does with the values in between (files, queues) is left out; what the browser does is kept if the page relies on it: a gallery keeps
its frame if an update names none, and what follows an event with ``then`` is left out after an error.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import gradio as gr
from gradio.blocks import BlockFunction
from gradio.components import Component


class Visitor:
    """One window on ``page``."""

    def __init__(self, page: gr.Blocks) -> None:
        self.page = page
        self.values: dict[int, Any] = {}
        self.props: dict[int, dict[str, Any]] = {}
        self.errors: list[Exception] = []
        for number, block in page.blocks.items():
            self.values[number] = getattr(block, "value", None)
            self.props[number] = {
                name: getattr(block, name, None) for name in ("interactive", "visible", "selected_index")
            }

    def __getitem__(self, component: Component) -> Any:
        return self.values[component._id]

    def __setitem__(self, component: Component, value: Any) -> None:
        self.values[component._id] = value

    def prop(self, component: Component, name: str) -> Any:
        """A property that updates may change."""
        return self.props[component._id][name]

    def fire(self, component: Component, event: str, data: dict[str, Any] | None = None) -> None:
        """The event and all that follows from it."""
        for _ in self.begin(component, event, data):
            pass

    def begin(self, component: Component, event: str, data: dict[str, Any] | None = None) -> Iterator[None]:
        """The same step by step: yields after each update, so that others can come in between."""
        for listener in self.page.fns.values():
            if (component._id, event) in listener.targets:
                yield from self._run(listener, data)

    def press(self, button: gr.Button) -> None:
        """Click a button, as far as it can be clicked."""
        if self.prop(button, "interactive") is not False:
            self.fire(button, "click")

    def click(self, gallery: gr.Gallery, index: int) -> None:
        """Click an image; the browser frames it before it asks."""
        self.props[gallery._id]["selected_index"] = index
        self.fire(gallery, "select", {"index": index, "value": None, "selected": True})

    def _run(self, listener: BlockFunction, data: dict[str, Any] | None = None) -> Iterator[None]:
        inputs = [self.values[block._id] for block in listener.inputs]
        try:
            if listener.js is None and listener.fn is not None:
                for answer in self._answers(listener, inputs, data):
                    self._take(listener, answer)
                    yield
        except Exception as error:
            self.errors.append(error)
            yield from self._follow(listener, "trigger_only_on_failure")
            return
        yield from self._follow(listener, None)

    def _follow(self, listener: BlockFunction, only: str | None) -> Iterator[None]:
        for later in list(self.page.fns.values()):
            if later.trigger_after == listener._id and bool(only) == later.trigger_only_on_failure:
                yield from self._run(later)

    def _answers(
        self, listener: BlockFunction, inputs: list[Any], data: dict[str, Any] | None
    ) -> Iterator[Any]:
        hints = typing.get_type_hints(listener.fn) if inspect.isroutine(listener.fn) else {}
        given = iter(inputs)
        values = []
        for name, parameter in inspect.signature(listener.fn).parameters.items():
            if hints.get(name) is gr.SelectData:
                values.append(gr.SelectData(None, data))
            elif hints.get(name) is gr.EventData:
                values.append(gr.EventData(None, data))
            elif hints.get(name) is gr.Request:
                values.append(
                    SimpleNamespace(
                        client=SimpleNamespace(host="127.0.0.1"),
                        request=None,
                        headers={},
                        cookies={},
                        session_hash="test",
                    )
                )
            elif parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                values.extend(given)
            elif parameter.default is inspect.Parameter.empty:
                values.append(next(given))
        answer = listener.fn(*values)
        yield from answer if inspect.isgenerator(answer) else [answer]

    def _take(self, listener: BlockFunction, answer: Any) -> None:
        if not listener.outputs or answer == gr.skip():
            return
        if isinstance(answer, dict) and answer.get("__type__") != "update":
            for block, value in answer.items():
                assert block in listener.outputs, f"{block} is not an output of {listener.name}"
                self._set(block, value)
        else:
            answers = [answer] if len(listener.outputs) == 1 else answer
            assert len(answers) == len(listener.outputs), listener.name
            for block, value in zip(listener.outputs, answers, strict=True):
                self._set(block, value)

    def _set(self, block: Component, value: Any) -> None:
        if not (isinstance(value, dict) and value.get("__type__") == "update"):
            value = {"value": value}
        if "value" in value:
            self.values[block._id] = value["value"]
        props = self.props[block._id]
        props.update(
            {name: v for name, v in value.items() if name not in ("value", "__type__") and v is not None}
        )
        if isinstance(block, gr.Gallery) and "value" in value and isinstance(props["selected_index"], int):
            props["selected_index"] = max(0, min(props["selected_index"], len(value["value"]) - 1))
