"""Words that several parts share: the names of options, as literal types."""

from typing import Literal

Scope = Literal["last", "all", "grouped"]
Direction = Literal["previous", "next"]
LayoutDirection = Literal["previous", "next", "mixed"]
NormName = Literal["layer_norm", "rms_norm"]
ActivationName = Literal["squared_relu", "gelu", "relu", "silu", "swiglu"]
GateShape = Literal["scalar", "channel"]
PresetName = Literal["paper", "open_flamingo", "idefics", "mllama"]
