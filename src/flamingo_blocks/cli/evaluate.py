"""`flamingo-blocks eval`: few-shot scores of a model, with controls, in one folder."""

import argparse
import math
import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch import distributed

from flamingo_blocks.cli._arguments import natural, positive
from flamingo_blocks.cli._device import DEVICE_HELP, device_of
from flamingo_blocks.cli._ending import closing
from flamingo_blocks.cli._evaluated_model import load_evaluated
from flamingo_blocks.cli._named_tasks import DEMO, OF_SUITE, check_shots, read_named_tasks, with_own_shots
from flamingo_blocks.cli._own_errors import is_ours
from flamingo_blocks.cli._progress import ProgressBars
from flamingo_blocks.cli._results import add_json, print_json
from flamingo_blocks.cli._settings_as_options import as_options
from flamingo_blocks.demo import load_demo_model
from flamingo_blocks.demo.measure import demo_questions
from flamingo_blocks.errors import EvaluationError, FlamingoBlocksError
from flamingo_blocks.evaluation import EvalConfig, evaluate_model, rescore
from flamingo_blocks.evaluation.answering import EvaluatedModel, FlamingoModel
from flamingo_blocks.evaluation.controls import CONTROLS, DEFAULT_CONTROLS
from flamingo_blocks.evaluation.prompts import PROFILES
from flamingo_blocks.evaluation.reports import read_predictions, write_server_file
from flamingo_blocks.evaluation.reports.results_schema import summary_values
from flamingo_blocks.evaluation.results import EvaluationResult
from flamingo_blocks.evaluation.runner.run_folder import JOURNALS, PREDICTIONS
from flamingo_blocks.evaluation.task import Task
from flamingo_blocks.evaluation.tasks import describe_tasks
from flamingo_blocks.training.ranks.process_group import process_group, started_together
from flamingo_blocks.training.ranks.rank_of_process import rank_of_process


def add_to(commands: Any) -> None:
    """Add the command and its arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "eval",
        help="measure a model with few shots",
        description="Ask a model the queries of tasks with shots, and write scores, predictions and a report. The same "
        "command goes on from a kill; under torchrun each process asks its share.",
        epilog=closing(
            "flamingo-blocks eval --list",
            "flamingo-blocks eval --tasks demo --model runs/demo/model --shots 0,8 --seeds 0",
            "flamingo-blocks eval --tasks coco,vqav2 --shots 0,4 --data data --model model --out runs/eval",
        ),
    )
    parser.add_argument("--list", action="store_true", help="print the tasks with their files, and end")
    parser.add_argument(
        "--tasks", type=_names, default=[], metavar="NAME,...",
        help="tasks of --list, NAME:SPLIT for another split than the first; of the synthetic suite, which has 64 shots "
        "at most; files TASK.yaml of your own; demo, for a model of the demo",
    )  # fmt: skip
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder with a folder NAME for each task")
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="folder of a saved model, of transformers too with its processor, or FILE.py:FUNCTION that returns "
        "model and processor",
    )
    parser.add_argument("--chat", action="store_true", help="ask a model of transformers in its chat template")
    parser.add_argument("--tokenizer", type=Path, metavar="DIR", help="tokenizer of a model that was saved without")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/eval"), metavar="DIR", help="folder to write to (default: %(default)s)"
    )
    _add_settings(parser)
    parser.add_argument("--device", default=None, help=f"{DEVICE_HELP}; default: cuda where there is one")
    parser.add_argument("--rescore", type=Path, metavar="DIR", help="score the predictions of a finished run again")
    parser.add_argument(
        "--export", type=Path, metavar="FILE",
        help="with --rescore: only write the answers of one task and split that was asked, of one of --shots and "
        "--seeds, for its server or script",
    )  # fmt: skip
    add_json(parser, "the summary of the scores")
    parser.set_defaults(run=run, kept="answers are kept, and the same command goes on from there")


def _add_settings(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("settings")
    group.add_argument(
        "--shots",
        type=_numbers,
        default=(0, 4, 8, 16, 32),
        metavar="N,...",
        help="shots of each query (default: 0,4,8,16,32)",
    )
    group.add_argument(
        "--seeds", type=_numbers, default=(0, 1, 2), metavar="N,...", help="of the draws of shots (default: 0,1,2)"
    )
    group.add_argument(
        "--profile", choices=sorted(PROFILES), default="paper", metavar="NAME",
        help=f"how prompts are written and answers decoded, one of {', '.join(sorted(PROFILES))} (default: paper)",
    )  # fmt: skip
    group.add_argument(
        "--controls", type=_names, default=list(DEFAULT_CONTROLS), metavar="NAME,...",
        help="what is taken away from the model to see what the score stands on; asked with the largest of --shots "
        f"alone.\nall: {', '.join(name for name in CONTROLS if name != 'none')}\n"
        f"default: {', '.join(DEFAULT_CONTROLS)}\n'' for none. Whether images are used tell gates_closed, "
        "swap_query_image and shuffle_images.",
    )  # fmt: skip
    group.add_argument("--queries", type=positive, metavar="N", help="ask so many of each task, chosen by hash")
    group.add_argument(
        "--groups", type=natural, default=64, metavar="N", help="draws of shots; 0: one a query (default: 64)"
    )
    _add_rarer(group)


def _add_rarer(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--rices", action="store_true",
        help="shots whose images are most like the query's, by the vision tower of a Flamingo; a folder of another "
        "model of transformers has none",
    )  # fmt: skip
    group.add_argument("--balanced", action="store_true", help="shots show each class as often as any other")
    group.add_argument(
        "--ensemble", type=positive, default=1, metavar="N", help="orders that closed tasks average over"
    )
    group.add_argument("--beams", type=positive, metavar="N", help="beams of open tasks; default: the profile's")
    group.add_argument(
        "--max-missing", type=float, default=0.0, metavar="SHARE", help="of queries without image that is let pass"
    )
    group.add_argument("--memory-gb", type=_gigabytes, default=2.0, metavar="GB", help="for caches and logits")
    group.add_argument(
        "--seed", type=natural, default=0, metavar="N", help="of the synthetic suite, and of the demo's run"
    )


def run(arguments: argparse.Namespace) -> int:
    """List tasks, score again, write a file for a server, or evaluate."""
    for word, given in (("--list", arguments.list), ("--export", arguments.export)):
        if given and arguments.json:
            raise EvaluationError(f"--json prints the summary of the scores, and {word} has none; leave --json out")
    if arguments.list:
        print(describe_tasks())
        print(f"\nof the synthetic suite, which needs no files: {', '.join(OF_SUITE)}")
        print(f"of a model that the demo saved, alone: {DEMO}")
        return 0
    if not arguments.tasks:
        raise EvaluationError("--tasks names no task; `flamingo-blocks eval --list` prints them")
    try:
        if arguments.export is not None:
            _export(arguments)
        elif arguments.rescore is not None:
            _rescore(arguments)
        else:
            _evaluate(arguments)
    except EvaluationError as error:
        raise EvaluationError(as_options(str(error))) from error
    return 0


def _evaluate(arguments: argparse.Namespace) -> None:
    """Ask a model, alone or with the other processes of torchrun."""
    config = _config(arguments)
    with _together():
        if arguments.tasks == [DEMO]:
            tasks, model = _of_demo(arguments)
            _check_choice_of_shots(arguments, tasks)
        else:
            tasks = _tasks(arguments)
            _check_choice_of_shots(arguments, tasks)
            model = load_evaluated(
                _model(arguments),
                device=device_of(arguments.device, error=EvaluationError),
                tokenizer=arguments.tokenizer,
                chat=arguments.chat,
            )
        bars = ProgressBars() if rank_of_process() == 0 else None
        shown = warnings.showwarning
        warnings.showwarning = _as_note  # type: ignore[assignment]  # the place is of no interest here
        try:
            result = evaluate_model(
                model, tasks, config, folder=arguments.out, name=Path(arguments.model).name,
                on_progress=bars or (lambda _name, _done, _total: None),
            )  # fmt: skip
        except ValueError as error:
            if isinstance(error, FlamingoBlocksError) or not is_ours(error):
                raise
            raise EvaluationError(str(error)) from error
        finally:
            warnings.showwarning = shown
            if bars is not None:
                bars.close()
    if rank_of_process() == 0:
        _print(result, arguments.out, as_json=arguments.json)


def _check_choice_of_shots(arguments: argparse.Namespace, tasks: list[Task]) -> None:
    check_shots(tasks, arguments.shots)
    own = with_own_shots(tasks) if arguments.rices else []
    said = f"--rices chooses no shots for {', '.join(own)}, whose queries bring their own"
    if own and len(own) == len(tasks):
        raise EvaluationError(f"{said}; leave it out")
    if own and rank_of_process() == 0:
        print(f"flamingo-blocks: note: {said}", file=sys.stderr)


def _rescore(arguments: argparse.Namespace) -> None:
    """Score the predictions of a run again."""
    _check_finished(arguments.rescore)
    tasks = _of_demo(arguments)[0] if arguments.tasks == [DEMO] else _tasks(arguments)
    _print(rescore(arguments.rescore, tasks), arguments.rescore, as_json=arguments.json)


def _export(arguments: argparse.Namespace) -> None:
    """Write the file that the server or the script of a task takes; the folder of the run stays as it is."""
    if arguments.rescore is None:
        raise EvaluationError("--export writes answers that were given; name the folder of their run with --rescore")
    if not len(arguments.tasks) == len(arguments.shots) == len(arguments.seeds) == 1:
        raise EvaluationError("--export writes one file; name one of each with --tasks, --shots and --seeds")
    if arguments.tasks == [DEMO]:
        raise EvaluationError(f"--export writes what a server or script takes, and the tasks of {DEMO} have neither")
    _check_finished(arguments.rescore)
    (task,) = _tasks(arguments)
    cell = (task.name, arguments.shots[0], arguments.seeds[0], "none")
    predictions = [one for one in read_predictions(arguments.rescore / PREDICTIONS) if one.key[:4] == cell]
    if not predictions:
        raise EvaluationError(
            f"{arguments.rescore} has no answers to {cell[0]} with {cell[1]} shots and seed {cell[2]}"
        )
    write_server_file(arguments.export, task.name, task.queries, predictions)
    print(f"  {arguments.export}: answers to {task.name}, as its server or script takes them")


def _check_finished(folder: Path) -> None:
    if (folder / JOURNALS).is_dir() and not (folder / PREDICTIONS).exists():
        raise EvaluationError(f"--rescore names {folder}, whose run is not finished; give its command again")


def _as_note(message: Warning | str, *_where: object) -> None:
    """A warning as a line, without the place in the sources that it came from."""
    print(f"\nflamingo-blocks: note: {as_options(str(message))}", file=sys.stderr)


def _config(arguments: argparse.Namespace) -> EvalConfig:
    return EvalConfig(
        shots=arguments.shots,
        seeds=arguments.seeds,
        profile=arguments.profile,
        controls=tuple(arguments.controls),
        selection="rices" if arguments.rices else "random",
        groups=arguments.groups or None,
        balanced=arguments.balanced,
        ensemble=arguments.ensemble,
        num_queries=arguments.queries,
        num_beams=arguments.beams,
        max_missing=arguments.max_missing,
        memory_bytes=int(arguments.memory_gb * 2**30),
    )


def _model(arguments: argparse.Namespace) -> str:
    if arguments.model is None:
        raise EvaluationError("--model names no model; give the folder of one")
    name: str = arguments.model
    return name


def _of_demo(arguments: argparse.Namespace) -> tuple[list[Task], EvaluatedModel]:
    """The demo's own questions, whose pictures a model of the demo comes with."""
    for word, given in (("--chat", arguments.chat), ("--tokenizer", arguments.tokenizer), ("--data", arguments.data)):
        if given:
            raise EvaluationError(f"{word} does nothing with --tasks {DEMO}, whose model has its own; leave it out")
    flamingo, vocabulary = load_demo_model(Path(_model(arguments)))
    tasks, processor = demo_questions(flamingo, vocabulary, seed=arguments.seed)
    flamingo.to(device_of(arguments.device, error=EvaluationError))
    return tasks, FlamingoModel(flamingo, processor)


def _tasks(arguments: argparse.Namespace) -> list[Task]:
    return read_named_tasks(arguments.tasks, data=arguments.data, queries=arguments.queries, seed=arguments.seed)


def _print(result: EvaluationResult, folder: Path, *, as_json: bool) -> None:
    if as_json:
        print_json({"out": folder, "summary": summary_values(result)})
    else:
        print_result(result, folder)


def print_result(result: EvaluationResult, folder: Path) -> None:
    """Print the headline of each task, mean over seeds, and where the rest is."""
    shots = sorted({cell.shots for cell in result.cells})
    print(f"{'shots':34}" + "".join(f"{number:>8}" for number in shots))
    rows: dict[tuple[str, str], dict[int, list[float]]] = {}
    for cell in result.cells:
        if cell.scores[0].value is not None:
            rows.setdefault((cell.task, cell.control), {}).setdefault(cell.shots, []).append(cell.scores[0].value)
    for (task, control), values in sorted(rows.items(), key=lambda row: (row[0][0], row[0][1] != "none")):
        title = task if control == "none" else f"  {control}"
        cells = (f"{sum(values[each]) / len(values[each]):8.2f}" if each in values else " " * 8 for each in shots)
        print(f"{title:34}" + "".join(cells))
    for name, what in (
        ("report.html", "curves, beside published ones"), ("report.md", "tables"), ("results.json", "every score"),
        ("predictions.jsonl", "every prompt and answer"),
    ):  # fmt: skip
        print(f"  {folder / name}: {what}")


def _together() -> AbstractContextManager[None]:
    """A process group for as long as it lasts, where torchrun started the process."""
    if not started_together() or distributed.is_initialized():
        return nullcontext()
    # What goes between the processes is small, and on the CPU. One may wait for the share of another for hours.
    return process_group("gloo", timeout=timedelta(days=30))


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split(",") if word)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of whole numbers such as 0,4,8") from None


def _gigabytes(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0, such as 2 or 0.5")
    return number


def _names(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
