"""`shadowrig doctor`: can this machine run Shadowrig, and how well?

Every check looks at the machine itself (a thread really asks for SCHED_FIFO, a key pair is really made) and ends as
`ok`, `warn` (runs, but not as it should in a car) or `fail` (does not run), with what to do about it. A check that
breaks is a failed check and never ends the others. What only another stage can judge, such as a model bundle, the
caller hands in as a `Probe`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from runtime.health import doctor_machine, doctor_software
from runtime.health.doctor_findings import Finding, Outcome

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Probe:
    """A check that the caller brings: `run` returns what it found, or raises ValueError or OSError."""

    name: str
    run: Callable[[], str]
    fix: str


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found."""

    name: str
    verdict: Verdict
    detail: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class DoctorPlan:
    """What to look at: where data would lie and how much of it there may be."""

    history_directory: Path
    history_bytes: int
    state_directory: Path
    spool_bytes: int
    tick_priority: int = 50
    probes: Sequence[Probe] = ()


def diagnose(plan: DoctorPlan) -> list[Check]:
    """Run every check, in the order of a report."""
    checks: list[tuple[str, Callable[[], Outcome], str]] = [
        ("python", doctor_software.check_python, "install Python 3.10, 3.11 or 3.12"),
        ("packages", doctor_software.check_packages, "run 'make install'"),
        ("video codecs", doctor_software.check_codecs, "install the PyAV wheel: pip install --force-reinstall av"),
        ("encryption", doctor_software.check_curve, "install the pyzmq wheel: pip install --force-reinstall pyzmq"),
        ("processor", doctor_machine.check_processor, ""),
        ("clock rate", doctor_machine.check_clock_rate, ""),
        ("real-time rights", lambda: doctor_machine.check_realtime(plan.tick_priority), ""),
        ("machine limits", doctor_machine.check_machine_limits, ""),
        ("memory lock", doctor_machine.check_memory_lock, ""),
        ("history space", lambda: doctor_machine.check_tmpfs(plan.history_directory, plan.history_bytes), ""),
        ("spool space", lambda: doctor_machine.check_disk(plan.state_directory, plan.spool_bytes), ""),
    ]
    found = [_run(name, check, fix) for name, check, fix in checks]
    return found + [_run(probe.name, _outcome(probe), probe.fix) for probe in plan.probes]


def worst(checks: Sequence[Check]) -> Verdict:
    """The verdict over all: as good as the worst check."""
    order: tuple[Verdict, ...] = ("ok", "warn", "fail")
    return max((check.verdict for check in checks), key=order.index, default="ok")


def to_dict(checks: Sequence[Check]) -> dict[str, object]:
    """`{"verdict", "checks": [{"name", "verdict", "detail", "fix"}]}`."""
    return {"verdict": worst(checks), "checks": [asdict(check) for check in checks]}


def report_lines(checks: Sequence[Check]) -> Iterator[str]:
    """The report as text, one line for a check and one for its fix."""
    width = max((len(check.name) for check in checks), default=0)
    for check in checks:
        yield f"{check.verdict:4}  {check.name:{width}}  {check.detail}"
        if check.fix:
            yield f"{'':{width + 8}}fix: {check.fix}"


def _run(name: str, check: Callable[[], Outcome], fix: str) -> Check:
    try:
        found = check()
    except Exception as error:  # a broken check is a finding: the others still run
        return Check(name, "fail", f"{type(error).__name__}: {error}", fix)
    return Check(name, found.verdict, found.detail, "" if found.verdict == "ok" else found.fix or fix)


def _outcome(probe: Probe) -> Callable[[], Outcome]:
    return lambda: Finding.ok(probe.run())
