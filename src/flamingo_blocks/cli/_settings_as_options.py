"""Messages of a run that speak of the settings of Python, in the words of the command line."""

import re

_WORDS = (
    (r'\bselection is "rices"', "--rices is given"),
    (r'\buse selection="random"', "leave it out"),
    (r"\bturn balanced off\b", "leave --balanced out"),
    (r"\bnum_beams=", "--beams "),
    (r"\bnum_beams\b", "--beams"),
    (r"\bmax_missing\b", "--max-missing"),
    (r"\bleave it out of controls\b", "leave it out of --controls"),
    (r"\bwhich tasks lacks\b", "which --tasks lacks"),
    (r"^(shots|seeds|controls|groups|ensemble) (?=is |has )", r"--\1 "),
    (r"(?<=\bof a run with )(profile|groups|ensemble)=", r"--\1 "),
)


def as_options(message: str) -> str:
    """A message in the words of `flamingo-blocks eval`.

    Args:
        message: What an error or a warning of a run says.

    Example:
        >>> as_options("max_missing is 2.0, wanted a share from 0 to 1")
        '--max-missing is 2.0, wanted a share from 0 to 1'
        >>> as_options("answers are chosen greedily; num_beams=1 says so")
        'answers are chosen greedily; --beams 1 says so'
        >>> as_options('selection is "rices", but the model has no vision tower; use selection="random"')
        '--rices is given, but the model has no vision tower; leave it out'
        >>> as_options("runs/eval holds answers of a run with groups=64, this one has None")
        'runs/eval holds answers of a run with --groups 64, this one has None'
    """
    for setting, option in _WORDS:
        message = re.sub(setting, option, message)
    return message
