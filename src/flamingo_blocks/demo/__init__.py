"""The few-shot demo: a small Flamingo that learns, in minutes on one CPU core, to name images it is shown."""

__all__: list[str] = []
