"""Odd values of every flag and every setting of a file: one line and exit code 2, or taken as what it is.

Nothing runs: sweeps are only described, and experiments are to write into a file, which is the last thing refused.
"""

import pytest
from command_line import call

from tts_jax.cli.sweep import PLAN

ODD = [
    *("", " ", "text", "nan", "inf", "-inf", "-1", "0", "0.0", "1e-320", "1e400", "1e300", "2.5", "0.5", "2"),
    *("9" * 400, str(2**31), str(2**63), "None", "[]", "1,2", "0x10", "True", "a\nb", "é"),
]
WHOLE, POSITIVE = {"2"}, {"2", "0.5", "2.5", "1e300", str(2**31), str(2**63)}
SEEDS = {"0", "2", str(2**31)}
FEW = {"2", "0.5", "2.5"}
NOT_NEGATIVE = POSITIVE | {"0", "0.0", "1e-320"}
OF_SWEEP = {
    **dict.fromkeys(("epsilon", "eta", "step_size", "slow_time", "rtol"), POSITIVE),
    **dict.fromkeys(("seeds", "neurons", "saves"), WHOLE),
    "noise": NOT_NEGATIVE,
}
OF_RUN = {
    ("same-step", "seed"): SEEDS,
    ("notation", "seed"): SEEDS,
    ("same-step", "epsilon"): FEW,
    ("same-step", "step-size"): FEW,
    ("same-step", "neurons"): WHOLE,
    ("same-step", "seeds"): set(),
    ("relu", "epsilon"): set(),
    ("relu", "step-size"): POSITIVE,
    ("regime-atlas", "seeds"): WHOLE,
    ("varying-epsilon", "seeds"): WHOLE,
    ("varying-epsilon", "profile"): set(),
}
YAML = [
    *(
        "null",
        "{}",
        "text",
        "''",
        ".nan",
        "-.inf",
        "-1",
        "1e-320",
        "1e400",
        "[[1]]",
        "[a]",
        "[null]",
        "[1, true]",
        "true",
    ),
    *(
        "2024-01-01",
        "{a: 1}",
        "[1, [2]]",
        "9" * 400,
        "!!binary aGk=",
        "!!set {a}",
        "!!python/object:os.system {}",
        "*a",
    ),
    *("&a [*a]", "[", "[0.5, .nan]", "[2, 2]"),
]
FILES = ["[]", "x", "1", "\0", "- a", "a: b: c", "epsilon: 1\nepsilon: 2\n", "unknown: 1\n", "dynamics: []\n"]


pytestmark = pytest.mark.usefixtures("annotations_off")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()


def fault(arguments, takes: bool, told="") -> str | None:
    code, text, error = call(*arguments)
    if takes:
        return None if code == 0 or told in error else f"refused: {error!r}"
    one_line = error.startswith("tts-jax: ") and error.count("\n") == 1 and len(error) < 600
    return None if code == 2 and one_line and not text else f"exit code {code}: {text[:80]!r} {error[:80]!r}"


def assert_none(faults):
    found = [f"{said[:40]!r}: {fault}" for said, fault in faults if fault]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", PLAN)
def test_flags_of_a_sweep(name):
    flag = f"--{name.replace('_', '-')}"
    takes = OF_SWEEP.get(name, set())
    assert_none((odd, fault(("sweep", "--dry-run", f"{flag}={odd}"), odd in takes)) for odd in ODD)


@pytest.mark.parametrize("name", PLAN)
def test_settings_of_a_file(name, tmp_path):
    def described(odd):
        (tmp_path / "plan.yaml").write_text(f"{name}: {odd}\n")
        return fault(("sweep", "--dry-run", "plan.yaml"), False)

    unused = {"1e-320"} if name == "noise" else set()
    assert_none((odd, described(odd)) for odd in YAML if odd not in unused)


@pytest.mark.parametrize("kind", ["yaml", "toml"])
def test_files(kind, tmp_path):
    def described(text):
        (tmp_path / f"plan.{kind}").write_text(text)
        return fault(("sweep", "--dry-run", f"plan.{kind}"), False)

    assert_none((text, described(text)) for text in FILES)


@pytest.mark.parametrize("of", OF_RUN, ids=" ".join)
def test_flags_of_a_run(of):
    name, flag = of
    arguments = "run", name, "--out", "file"
    faults = ((odd, fault((*arguments, f"--{flag}={odd}"), odd in OF_RUN[of], "cannot write into file")) for odd in ODD)
    assert_none(faults)


@pytest.mark.parametrize(
    "arguments",
    [(), ("run",), ("show",), ("plot",), ("list",), ("sweep", "--dry-run"), ("sweep", "--resume"), ("reproduce",)],
    ids=" ".join,
)
def test_other_words(arguments):
    """Names and paths of nothing."""
    assert_none((odd, fault((*arguments, odd), False)) for odd in ODD if len(odd) < 256)
