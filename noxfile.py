"""Every check and the demo, each in an environment of its own: `python -m nox -s <session>`."""

import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
nox.options.sessions = ["tests", "lint", "types", "docs"]
nox.options.default_venv_backend = "virtualenv"  # uv does not see every build of torch that pip is configured to find
nox.options.reuse_venv = "yes"

ROOT = Path(__file__).parent
CONSTRAINTS = str(ROOT / "constraints.txt")
PAGE_READERS = ("trafilatura", "beautifulsoup4", "lxml", "lxml-html-clean")
LOADERS = ("webdataset", "grain", "datasketch")  # what shards, loading and duplicates are timed beside
# They pin a torch of 2023, or want what nobody needs of them, hence `--no-deps`.
PEERS = ("einops-exts", "flamingo-pytorch", "open-flamingo", "pycocoevalcap")
ENCODERS = ("torchvision", "timm", "open-clip-torch", "ftfy", "wcwidth")  # they would bring another torch
KERNELS = ("xformers",)  # its plans are proved on the CPU; left to itself, pip would bring another torch for it
OLDEST = ("transformers==5.0.0", "safetensors==0.6.1")  # the bounds of pyproject.toml


def install(session: nox.Session, *requirements: str, torch: bool = True) -> None:
    """Install under the pins of continuous integration, torch first so that nothing else chooses its build."""
    if torch:
        session.install("--constraint", CONSTRAINTS, "torch")
    if requirements:
        session.install("--constraint", CONSTRAINTS, *requirements)


def install_test_environment(session: nox.Session) -> None:
    """All that any test needs, and nothing written outside `.nox`."""
    install(session, "--editable", ".[hf,vision,data,dedup,video,demo,optim,train,tensorboard,test]")
    session.install("--constraint", CONSTRAINTS, "--no-deps", *PEERS, *KERNELS)
    session.env["FLAMINGO_BLOCKS_PEERS"] = "1"  # a test that misses one fails, where it is skipped elsewhere
    keep_inside(session)


def keep_inside(session: nox.Session) -> None:
    """Let the commands of this session write under `.nox` only, use one thread each, and reach for no network."""
    scratch = Path(session.create_tmp()).resolve()
    for variable in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "HF_HOME", "TORCHINDUCTOR_CACHE_DIR"):
        session.env[variable] = str(scratch / variable.lower())
    session.env.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", MPLBACKEND="Agg")


@nox.session
def tests(session: nox.Session) -> None:
    """Unit tests, laws, parity with other implementations, docs examples; arguments go to pytest."""
    install_test_environment(session)
    session.run("python", "-m", "pytest", "-n", "2", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style, format, and the direction of imports."""
    install(session, "ruff", "import-linter", torch=False)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    # The contract reads the sources: nothing is imported, so nothing needs installing.
    session.run("lint-imports", env={"PYTHONPATH": str(ROOT / "src")})


@nox.session
def types(session: nox.Session) -> None:
    """Check the sources with mypy in strict mode, without any optional package."""
    install(session, "--editable", ".", "mypy")
    session.run("mypy", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into `site/`, with every warning an error; `-- serve` shows it while you write."""
    # The reference is read from the sources; ruff breaks the long signatures. Figures are drawn from the library.
    drawing = ("--editable", ".", "pillow", "pydantic")
    install(session, *drawing, "mkdocs", "mkdocs-material", "mkdocstrings[python]", "ruff")
    session.env["NO_MKDOCS_2_WARNING"] = "1"  # an announcement, which is no finding
    session.run("python", "-m", "docs.figures")
    serve = session.posargs[:1] == ["serve"]
    session.run("mkdocs", *(session.posargs if serve else ("build", "--strict", "--clean", *session.posargs)))


@nox.session
def demo(session: nox.Session) -> None:
    """Train a small Flamingo and print its few-shot curve; arguments go to `flamingo-blocks demo`."""
    install(session, "--editable", ".[demo]")
    session.run("flamingo-blocks", "demo", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Time all that this machine can run, beside other implementations; `-- --help` tells what can be chosen."""
    install(session, "--editable", ".[hf,data,dedup,video,bench]", *PAGE_READERS, *LOADERS)
    session.install("--constraint", CONSTRAINTS, "--no-deps", *PEERS, *KERNELS)
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def compile(session: nox.Session) -> None:  # noqa: A001 - the name of the session
    """Blocks and model under `torch.compile`: equal to eager, no graph breaks, few graphs; wants a C++ compiler."""
    install_test_environment(session)
    compiled(session)


def compiled(session: nox.Session) -> None:
    """The tests of compiled code: without the shape checks, which cannot be traced."""
    environment = {"FLAMINGO_BLOCKS_SHAPE_CHECKS": "0"}
    session.run(
        "python", "-m", "pytest", "-n", "2", "-m", "compile", "tests/compile", *session.posargs, env=environment
    )


@nox.session
def gpu(session: nox.Session) -> None:
    """Tests that need a CUDA device: laws in half precision, and that nothing waits; skipped where there is none."""
    install_test_environment(session)
    session.run("python", "-m", "pytest", "-m", "gpu", *session.posargs)
    # What is compiled runs without the shape checks, which cannot be traced.
    session.run(
        "python", "-m", "pytest", "-m", "gpu", "-k", "compiled", "tests/gpu", env={"FLAMINGO_BLOCKS_SHAPE_CHECKS": "0"}
    )


@nox.session
def adapters(session: nox.Session) -> None:
    """Towers of timm and open_clip, with real models of random weights, and the pages and examples that show them."""
    install(session, "--editable", ".[hf,vision,test]")
    session.install("--constraint", CONSTRAINTS, "--no-deps", *ENCODERS)
    keep_inside(session)
    session.run("python", "-m", "pytest", "-m", "adapters", "tests/adapters", *session.posargs)


@nox.session
def floor(session: nox.Session) -> None:
    """Language models, towers, conversions, the Hugging Face front and what runs them, on the oldest bounds."""
    install(session)
    # Not under the pins: what this transformers stands on is older than they are.
    session.install("--editable", ".[hf,vision,test]", *OLDEST)
    session.install("--constraint", CONSTRAINTS, "--no-deps", *PEERS)  # run beside what this transformers makes
    session.env["FLAMINGO_BLOCKS_PEERS"] = "1"
    keep_inside(session)
    paths = (
        "tests/lm", "tests/models", "tests/lm_matrix", "tests/vision", "tests/hf", "tests/properties/test_families.py",
        "tests/interop", "tests/parity/test_transformers_blocks.py", "tests/evaluation/answering",
    )  # fmt: skip
    chosen = "not compile and not adapters"  # what takes longer too
    session.run("python", "-m", "pytest", "-n", "2", "-m", chosen, *paths, *session.posargs)


@nox.session
def quantised(session: nox.Session) -> None:
    """A language model with torchao's weights in eight bits; apart, for transformers imports torchao where it is."""
    install(session, "--editable", ".[hf,vision,test]")
    session.install("--constraint", CONSTRAINTS, "--no-deps", "torchao")
    keep_inside(session)
    session.run("python", "-m", "pytest", "-m", "adapters", "tests/lm_matrix/test_torchao.py", *session.posargs)


@nox.session
def ray(session: nox.Session) -> None:
    """Builds of data on a Ray of this machine, whose processes are killed."""
    install(session, "--editable", ".[data,ray,test]")
    keep_inside(session)
    # Ray starts no process from a folder inside its environment, and its sockets want a short path.
    with tempfile.TemporaryDirectory(prefix="ray-") as scratch:
        session.run("python", "-m", "pytest", "-m", "ray", "tests/ray", *session.posargs, env={"TMPDIR": scratch})


@nox.session
def browser(session: nox.Session) -> None:
    """Every page of the documentation in a browser; wants chromium and chromium-driver of Debian."""
    install(session, "--editable", ".[docs,test]", "selenium", "axe-core-python", "ruff")
    keep_inside(session)
    session.env["FLAMINGO_BLOCKS_BROWSER"] = "1"  # a browser that is missing is an error here, and a skip elsewhere
    session.run("python", "-m", "pytest", "-m", "browser", "tests/browser", *session.posargs)


@nox.session
def wheels(session: nox.Session) -> None:
    """Build what is published, look into it, install it where nothing else is, and use it."""
    install(session, "build", "hatchling", "twine", torch=False)
    distributed(session, "wheels")


@nox.session
def extras(session: nox.Session) -> None:
    """Each extra in an environment of its own: it resolves, brings what it is for and no more, and is used."""
    install(session, "build", "hatchling", torch=False)
    distributed(session, "extras", *session.posargs)


def distributed(session: nox.Session, script: str, *words: str) -> None:
    """A script of `tests/distribution`, which makes environments around one that holds torch."""
    shared = session.cache_dir / "torch-alone"
    work = Path(session.create_tmp()) / script
    session.run("python", "-m", f"tests.distribution.{script}", "--work", str(work), "--torch", str(shared), *words)


@nox.session
def full(session: nox.Session) -> None:
    """Run what takes minutes: the demo on three seeds against its bars, its ablations, mutations, larger searches."""
    install_test_environment(session)
    session.run("python", "-m", "pytest", "-n", "2", "-m", "full", *session.posargs)
    session.run("python", "-m", "pytest", "-n", "2", "tests/properties", env={"HYPOTHESIS_PROFILE": "full"})
    compiled(session)
    for other in (
        "adapters",
        "floor",
        "quantised",
        "ray",
        "browser",
        "wheels",
        "extras",
    ):  # each in an environment of its own
        session.notify(other)
