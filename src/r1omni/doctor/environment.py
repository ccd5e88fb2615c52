"""Everything about the machine, in the order in which one thing needs the other."""

from __future__ import annotations

from collections.abc import Iterator

from r1omni.doctor.checks import Finding, attempt, guarded


def check_environment() -> Iterator[Finding]:
    """Python, packages, GPU, decoders, cores, memory and disk.

    Where torch and its siblings do not import, what needs them is left out.
    """
    installation = list(guarded("packages", _check_installation))
    yield from installation
    torch_works = any(
        finding.subject == "torch family" and finding.status == "ok" for finding in installation
    )
    from r1omni.doctor import decoders, machine

    if torch_works:
        yield from guarded("GPU", machine.check_gpu)
    codecs = list(guarded("decoders", decoders.check_codecs))
    yield from codecs
    if torch_works and all(finding.status != "fails" for finding in codecs):
        yield from guarded("decoding", decoders.check_decoding)
    yield from guarded("cores", machine.check_cores)
    yield from guarded("memory", machine.check_memory)
    yield from guarded("shared memory", machine.check_shared_memory)
    yield from guarded("disk", _check_disk)


def _check_installation() -> Iterator[Finding]:
    # Imported here: it needs `packaging`, which may be missing like any other package.
    from r1omni.doctor import packages

    wanted = yield from attempt("packages", packages.declared)
    if wanted is not None:
        yield from packages.check_python(wanted.python)
        yield from packages.check_packages(wanted.requirements)
        yield from packages.check_extras(wanted.extras)
    yield from packages.check_torch_family(wanted.requirements if wanted else ())


def _check_disk() -> Iterator[Finding]:
    from r1omni.doctor import machine

    yield from machine.check_disk(machine.run_places())
