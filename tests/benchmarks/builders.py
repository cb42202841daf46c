"""Runs made by hand, for the tests of what is written and drawn from a run."""

from dataclasses import replace

from benchmarks.results import BarResult, CaseResult, ContenderResult, Limits, Machine, OperatorShare, Run, Versions


def contender(name, *, median_s=1e-3, ratio=1.0, saved_bytes=1024, peak_bytes=4096, spread=0.05):
    return ContenderResult(
        name=name, repeats=9, median_s=median_s, q1_s=median_s * (1 - spread), q3_s=median_s * (1 + spread),
        ratio=ratio, ratio_q1=ratio * (1 - spread), ratio_q3=ratio * (1 + spread),
        saved_bytes=saved_bytes, given_bytes=2048, peak_bytes=peak_bytes, limit_fraction=0.5,
    )  # fmt: skip


def bar(*, value, ratio=2.0, kind="faster_by", passed=None, metric="time"):
    return BarResult(
        what="the bar", against="open_flamingo", kind=kind, metric=metric, ratio=ratio, slack=0.0, value=value,
        passed=passed,
    )  # fmt: skip


def case(name="attention/forward/items1", *, ours=1e-3, peer=2e-3, bars=(), **peer_options):
    mine = contender("flamingo_blocks", median_s=ours)
    theirs = contender("open_flamingo", median_s=peer, ratio=peer / ours, **peer_options)
    return CaseResult(
        suite=name.partition("/")[0], name=name, sizes={"text": 32, "items": 1}, device="cpu", dtype="float32",
        status="ok", flops=1000, bytes=100, contenders=[mine, theirs], bars=list(bars),
        missing={"mllama": "no such package"},
    )  # fmt: skip


def missed(name="decode/slow"):
    """A case that missed a bar of time, with the profile that then belongs to it."""
    shares = [
        OperatorShare(name="aten::mm", share=0.75, calls=4.0),
        OperatorShare(name="aten::gelu", share=0.2, calls=1),
    ]
    return replace(case(name, bars=[bar(value=1.0, passed=False)]), profile=shares)


def failed(name="attention/broken", status="wrong"):
    return replace(case(name), status=status, trouble="they disagree", contenders=[], bars=[])


def run(*cases, **changes):
    made = Run(
        schema_version=1, date="2024-05-01", device="cpu", dtype="float32", threads=2, seed=0, full=False, suites=[],
        load=0.1,
        machine=Machine(cpu="A CPU @ 2.0GHz", cores=2, ram_bytes=2**34, gpu=None, system="Linux x86_64"),
        versions=Versions(
            python="3.11.0", torch="2.13.0", flamingo_blocks="0.1.0", packages={"einops": "0.8.2", "xformers": None},
            commit="0" * 40, dirty=False,
        ),
        limits=Limits(matmul_flops_per_s=1e11, copy_bytes_per_s=1e10),
        cases=list(cases) or [case()],
    )  # fmt: skip
    return replace(made, **changes)
