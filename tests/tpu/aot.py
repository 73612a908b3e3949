"""Compile the library ahead of time for a TPU, on a machine that has none.

    python tests/tpu/aot.py

Needs `libtpu`, which is the compiler. Exit status: 0 when every program compiles and keeps its promises,
77 when there is no compiler (the last line says why), anything else is a failure. It never hangs.
"""
# ruff: noqa: T201

import faulthandler
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

TOPOLOGY = "v5e:2x2"
SKIPPED = 77
PROBE_SECONDS = 60
LIMIT_SECONDS = 400

ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",  # take no device
    "TPU_SKIP_MDS_QUERY": "1",  # ask no metadata server
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # two checks may run at once
}


def mesh_without_devices():
    """Return a 2 x 2 mesh of TPU chips that are not there."""
    import numpy as np
    from jax.experimental import topologies
    from jax.sharding import Mesh

    topology = topologies.get_topology_desc(platform="tpu", topology_name=TOPOLOGY)
    return Mesh(np.array(topology.devices).reshape(2, 2), ("data", "model"))


def why_not() -> str | None:
    """Return why there is no compiler, or None; tried in a process that may hang or die."""
    if importlib.util.find_spec("libtpu") is None:
        return "libtpu is not installed."
    try:
        probe = subprocess.run(
            [sys.executable, __file__, "--probe"],
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"libtpu did not describe {TOPOLOGY} within {PROBE_SECONDS} s."
    if probe.returncode == 0:
        return None
    lines = probe.stderr.strip().splitlines() or [f"status {probe.returncode}"]
    return f"libtpu cannot describe {TOPOLOGY}: {lines[-1][:300]}"


def check_the_checks(mesh) -> None:
    """Compile what must be refused, so that a check that has gone blind is noticed."""
    import jax
    import jax.numpy as jnp
    from hlo import conditionals, exchanges, holds_doubles
    from jax.sharding import NamedSharding, PartitionSpec

    cut, whole = (NamedSharding(mesh, PartitionSpec(axes)) for axes in (("data", "model"), None))
    x = jax.ShapeDtypeStruct((1024,), jnp.float32, sharding=cut)
    gather = jax.jit(lambda x: x, out_shardings=whole).lower(x).compile().as_text()
    found = exchanges(gather)
    assert any(e.entries >= 1024 for e in found), f"gathering 1024 entries shows as {found}"
    assert conditionals(gather) == 0
    with jax.enable_x64(True):
        doubles = jax.jit(lambda x: x.astype(jnp.float64)).lower(x)
    assert holds_doubles(doubles.as_text(), scalars=False), "float64 does not show in StableHLO"
    assert holds_doubles(doubles.as_text("hlo"), scalars=False), "float64 does not show in HLO"


def compile_one(program, limit: int) -> tuple[str, list[str]]:
    """Compile a program; return a line on it, and the promises that it breaks."""
    import jax
    from hlo import conditionals, exchanges, holds_doubles

    start = time.perf_counter()
    jitted = jax.jit(program.function, donate_argnums=program.donate)
    lowered = jitted.lower(*program.args)
    text = lowered.compile().as_text()
    line = (
        f"{program.name}: {time.perf_counter() - start:.1f} s, {len(exchanges(text))} collectives"
    )

    broken = []
    if holds_doubles(lowered.as_text()) or holds_doubles(text):
        broken.append(f"{program.name} holds float64.")
    moved = [e for e in exchanges(text) if e.entries >= limit]
    if program.local and moved:
        broken.append(f"{program.name} moves parts of leaves between devices: {moved}.")
    if program.conditionals not in (None, conditionals(text)):
        broken.append(
            f"{program.name} has {conditionals(text)} conditionals, not {program.conditionals}."
        )
    return line, broken


def trace_one(program) -> list[str]:
    """Trace where 64-bit numbers are allowed: float32 parameters must still make no float64 array.

    Scalars are let through: JAX and optax hand Python numbers over as float64 constants then.
    """
    import jax
    from hlo import holds_doubles

    text = jax.jit(program.function).lower(*program.args).as_text()
    doubles = holds_doubles(text, scalars=False)
    return [f"{program.name} makes float64 arrays under jax_enable_x64."] if doubles else []


def main() -> int:
    """Check every program; return the exit status."""
    reason = why_not()
    if reason is not None:
        print(f"TPU check skipped: {reason}")
        return SKIPPED
    faulthandler.dump_traceback_later(LIMIT_SECONDS, exit=True)
    import jax

    sys.path.append(str(Path(__file__).parents[2]))  # for experiments, which is not installed
    from programs import programs, smallest_shard

    start = time.perf_counter()
    mesh = mesh_without_devices()
    check_the_checks(mesh)
    broken, count = [], 0
    for program in programs(mesh):
        line, faults = compile_one(program, smallest_shard(mesh))
        print(line, flush=True)
        broken += faults
        count += 1
    with jax.enable_x64(True):
        for program in programs(mesh):
            broken += trace_one(program)

    seconds = time.perf_counter() - start
    kind = mesh.devices.flat[0].device_kind
    print(
        f"{count} programs compiled for {mesh.size} x {kind}, jax {jax.__version__}, {seconds:.0f} s"
    )
    for fault in broken:
        print(fault)
    return 1 if broken else 0


if __name__ == "__main__":
    os.environ.update(ENVIRONMENT)
    if sys.argv[1:] == ["--probe"]:
        mesh_without_devices()
    else:
        sys.exit(main())
