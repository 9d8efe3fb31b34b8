"""One target for its share of a long run, in a process that `python -m tests.fuzz` starts.

A failure does not end it: the input is written down once for each place where one came from.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import io
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

# Nothing of the package may be imported before atheris can instrument it.

MACHINE = "machine"
"""The state machine, which takes no octets."""

EXECUTIONS = "stat::number_of_executed_units:"
"""In front of how many inputs were run: libFuzzer's words."""

_MEGABYTES = 1024
_SECONDS_FOR_ONE_INPUT = 20


def atheris_is_there() -> bool:
    """Whether atheris can be imported: there are releases of it for some Pythons only."""
    return importlib.util.find_spec("atheris") is not None


class Finder:
    """Runs a target, and writes down what fails."""

    def __init__(self, target: str, run: Callable[[bytes], None], folder: Path) -> None:
        self._target = target
        self._run = run
        self._folder = folder
        self._seen: set[tuple[str, str, int | None]] = set()

    def __call__(self, octets: bytes) -> None:
        """Run one input."""
        try:
            self._run(octets)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            self.note(error, octets)

    def note(self, error: Exception, octets: bytes | None, printed: str = "") -> None:
        """Write a failure down, unless one came from the same place before."""
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = (type(error).__name__, last.filename, last.lineno)
        if place in self._seen:
            return
        self._seen.add(place)
        told = printed + "".join(traceback.format_exception(error))
        told = told.encode("ascii", "backslashreplace").decode()  # whoever reads it
        name = f"{self._target}-{sha256(octets or told.encode()).hexdigest()[:12]}"
        if octets is not None:
            (self._folder / name).write_bytes(octets)
        (self._folder / f"{name}.txt").write_text(told)
        print(f"FAILED {name}\n{told}", flush=True)


# --- engines -----------------------------------------------------------------------------------


def fuzz_with_coverage(target: str, seconds: int, seed: int, folder: Path) -> None:
    """libFuzzer, by atheris: it looks for inputs that reach new code. Ends the process."""
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=["blocksmtp"]):
        targets = importlib.import_module("tests.fuzz.targets")
    from tests.fuzz.mutation import FRAGMENTS
    from tests.fuzz.seeds import seeds

    run, longest = targets.TARGETS[target]
    with tempfile.TemporaryDirectory() as temporary:
        corpus = Path(temporary, "corpus")
        corpus.mkdir()
        for number, octets in enumerate(seeds(target).values()):
            (corpus / str(number)).write_bytes(octets[:longest])
        dictionary = Path(temporary, "dictionary")
        dictionary.write_text("".join(f'"{_escaped(each)}"\n' for each in FRAGMENTS))
        arguments = [
            *(f"-seed={seed}", f"-max_total_time={seconds}", f"-max_len={longest}"),
            *(f"-rss_limit_mb={_MEGABYTES}", f"-timeout={_SECONDS_FOR_ONE_INPUT}"),
            *(f"-artifact_prefix={folder / target}-", f"-dict={dictionary}"),
            *("-print_final_stats=1", "-reload=0", str(corpus)),
        ]
        atheris.Setup([sys.argv[0], *arguments], Finder(target, run, folder))
        atheris.Fuzz()


def _escaped(octets: bytes) -> str:
    return "".join(f"\\x{octet:02x}" for octet in octets)


def fuzz_plainly(target: str, seconds: int, seed: int, folder: Path) -> None:
    """Mutations of the seeds, by chance alone."""
    from tests.fuzz.mutation import mutated
    from tests.fuzz.seeds import seeds
    from tests.fuzz.targets import TARGETS

    run, longest = TARGETS[target]
    find = Finder(target, run, folder)
    pool = list(seeds(target).values())
    chance = Random(seed)  # noqa: S311 - not for a secret
    end = time.monotonic() + seconds
    executions = 0
    while time.monotonic() < end:
        find(mutated(chance, pool, longest))
        executions += 1
    print(EXECUTIONS, executions)


def run_the_machine(seconds: int, seed: int, folder: Path) -> None:
    """The state machine over the protocol, in rounds that each have their seed."""
    import hypothesis
    from hypothesis.stateful import run_state_machine_as_test

    from tests.fuzz.session_machine import SessionMachine

    settings = hypothesis.settings(
        max_examples=50,
        stateful_step_count=60,
        deadline=None,
        database=None,
        derandomize=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )

    executions = 0

    class Counted(SessionMachine):
        def teardown(self) -> None:
            nonlocal executions
            executions += 1

    find = Finder(MACHINE, lambda octets: None, folder)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                run_state_machine_as_test(hypothesis.seed(seed)(Counted), settings=settings)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            find.note(error, None, f"Round with seed {seed}\n{printed.getvalue()}")
        seed += 1
    print(EXECUTIONS, executions)


def main() -> None:
    """Run one target as the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.worker")
    parser.add_argument("target")
    parser.add_argument("seconds", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("artifacts", type=Path)
    parser.add_argument("--plain", action="store_true")
    given = parser.parse_args()
    if given.target != MACHINE and not given.plain:
        fuzz_with_coverage(given.target, given.seconds, given.seed, given.artifacts)
        return
    with contextlib.suppress(OSError, ValueError):  # Not every system can.
        resource.setrlimit(resource.RLIMIT_AS, (_MEGABYTES << 20, _MEGABYTES << 20))
    if given.target == MACHINE:
        run_the_machine(given.seconds, given.seed, given.artifacts)
    else:
        fuzz_plainly(given.target, given.seconds, given.seed, given.artifacts)


if __name__ == "__main__":
    main()
