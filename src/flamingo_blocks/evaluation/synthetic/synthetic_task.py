"""Few-shot tasks out of drawn pictures, the same for a seed wherever they are made."""

from flamingo_blocks.evaluation.synthetic.binding import binding_task
from flamingo_blocks.evaluation.synthetic.counting import counting_task
from flamingo_blocks.evaluation.synthetic.digit_pictures import Writing
from flamingo_blocks.evaluation.synthetic.matching import matching_task
from flamingo_blocks.evaluation.synthetic.operator_induction import operator_task
from flamingo_blocks.evaluation.synthetic.pictures import MIN_SIZE
from flamingo_blocks.evaluation.synthetic.setting import Setting, check_one_of
from flamingo_blocks.evaluation.task import Answering, Task

SYNTHETIC = ("binding", "matching", "operator_induction", "counting")


def synthetic_task(
    name: str,
    *,
    queries: int = 200,
    seed: int = 0,
    size: int = 64,
    support: int = 64,
    answering: Answering = "open",
    names: int = 2,
    interleaved: bool = False,
    digits: Writing | None = None,
) -> Task:
    """A task whose pictures have to be looked at, made without any file.

    Use it to see whether a model reads its shots and its pictures, before or in place of benchmarks that have to be
    downloaded. Pictures are `uint8` tensors, channels first, as every `preprocess` takes them. More queries begin with
    the same ones, and no picture of a query is one of a shot.

    Args:
        name: `"binding"`: a made-up name of a coloured shape. `"matching"`: whether two pictures match, by a rule that
            the shots tell. `"operator_induction"`: the result of two digits, by an operator that the shots tell.
            `"counting"`: how many things have a colour or a shape.
        queries: How many are asked.
        seed: Decides everything.
        size: Side of the pictures in pixels.
        support: Rows that shots are drawn from: pairs of each rule, expressions, scenes, pictures of the names of an
            episode. So many shots can be asked, of `"matching"` twice as many, and of `"binding"` eight of each name in
            any case; more of them begin with the same ones in `"binding"` alone.
        answering: `"closed"`, of `"binding"` and `"matching"`: the model chooses among the names of the episode, or
            yes and no. Open and closed ask the same.
        names: Names of an episode of `"binding"`.
        interleaved: Whether digits have a picture each, in `"operator_induction"`.
        digits: `"handwritten"`, those of scikit-learn, or `"bars"`; None for the first if the package is there.

    Returns:
        The task. `facts` of its items say what was drawn; `support` of an item holds its shots in order, so that the
        first of them are as balanced as can be.

    Raises:
        ValueError: If the name is unknown, a number is too small, or closed answers are asked of a task of numbers.
        MissingDependencyError: If `digits` is `"handwritten"` and scikit-learn is not installed.

    Example:
        >>> task = synthetic_task("counting", queries=1, size=32)
        >>> task.queries[0].texts["question"], task.queries[0].answers
        ('colour: red', ('3',))
        >>> task.queries[0].media[0].data.shape
        torch.Size([3, 32, 32])

    Source:
        The shapes of VL-ICL Bench (arXiv 2403.13164): fast binding, matching, operator induction, CLEVR counting.
    """
    check_one_of("name", name, SYNTHETIC)
    check_one_of("answering", answering, ("open", "closed"))
    for argument, value, least in (("queries", queries, 1), ("support", support, 1), ("size", size, MIN_SIZE)):
        if value < least:
            raise ValueError(f"{argument} is {value}, wanted {least} at least")
    if answering == "closed" and name in {"operator_induction", "counting"}:
        raise ValueError(f"answering is 'closed', but {name!r} asks for a number, which is written; leave it open")
    if interleaved and name != "operator_induction":
        raise ValueError(f"interleaved is True, but {name!r} has no digits; leave it out")
    setting = Setting(
        task=name + ("_interleaved" if interleaved else ""), queries=queries, support=support, seed=seed, size=size
    )
    if name == "binding":
        return binding_task(setting, names=names, answering=answering)
    if name == "matching":
        return matching_task(setting, answering=answering)
    if name == "operator_induction":
        return operator_task(setting, interleaved=interleaved, digits=digits)
    return counting_task(setting)
