"""Paths on a GPU: the kernels in numba's simulator against the CPU, and what the compiler makes of them.

Both run in processes of their own, this file as a program, for numba reads its settings when it is imported.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_paths import mixture, run, starts_of, tableau_of

import srkverify as sv
from srkverify.engines import rng

NEEDED = "numba-cuda is not installed: pip install '.[cuda]'"
CLOSE = 1e-10  # relative, of numbers above 1

KINDS = ("isotropic", "diagonal", "full")
SCHEMES = ("ddpm", "srk", "srk_third_point_1", "dpmpp_2m_sde")
# Scheme, kind, components, dimension, steps, starts, paths a start, from the truth, and groups of threads.
CASES = {
    f"{scheme}, {kind}, {'truth' if truth else 'proposal'}": (scheme, kind, 3, 3, 2, 3, 3, truth, None)
    for scheme in SCHEMES
    for kind in KINDS
    for truth in (False, True)
    if not truth or scheme in ("srk", "srk_third_point_1", "dpmpp_2m_sde")
}
CASES |= {
    "one dimension, one step": ("srk", "diagonal", 2, 1, 1, 5, 5, False, None),
    "one component": ("srk", "isotropic", 1, 5, 2, 3, 3, False, None),
    "more components than directions": ("srk", "full", 18, 2, 2, 1, 4, False, None),
    "more coordinates than a chunk": ("srk", "full", 3, 37, 2, 2, 4, True, None),
    "more coordinates than a chunk, diagonal": ("srk", "diagonal", 3, 33, 2, 2, 4, False, None),
    "many steps": ("srk_martingale", "diagonal", 5, 4, 16, 2, 4, True, None),
    "several vectors one after another": ("ddpm", "full", 3, 2, 2, 11, 4, True, 2),
    "several rounds": ("dpmpp_2m_sde", "diagonal", 2, 2, 2, 11, 2, False, 2),
}
# Those in which threads of a vector are kept waiting, one here, one there, for others to be far ahead.
LATE = {
    "late threads, full": ("srk", "full", 3, 2, 2, 2, 8, False, 1),
    "late threads, many components": ("srk", "isotropic", 18, 1, 2, 1, 4, False, None),
    "late threads, memory": ("dpmpp_2m_sde", "diagonal", 3, 2, 2, 1, 8, True, None),
}
# Registers of a thread and bytes of its stack, at most. The kernels that step go without some registers on purpose.
RESOURCES = {
    "clear": (32, 0),
    "load": (64, 16),
    "look_ahead": (112, 32),
    "back": (128, 1200),
    "store": (56, 0),
    "replay": (128, 1000),
}
ARCHITECTURES = ("sm_80", "sm_90")


def program(mode, **variables):
    """Run this file as a program, and return what it found."""
    if importlib.util.find_spec("numba_cuda") is None:
        pytest.skip(NEEDED)
    where = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, __file__, mode],
        env={**os.environ, "PYTHONPATH": where, **variables},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def simulated():
    return program("simulate", NUMBA_ENABLE_CUDASIM="1")


@pytest.fixture(scope="module")
def compiled():
    return program("compile", NUMBA_ENABLE_CUDASIM="0")


@pytest.mark.parametrize("case", [*CASES, *LATE])
def test_kernels_do_what_the_cpu_does(simulated, case):
    gains, extras, ends = simulated[case]
    assert max(gains, extras, ends) < CLOSE


def test_random_numbers_are_those_of_the_cpu(simulated):
    assert simulated["normals"] < 1e-13
    assert simulated["tails"] < 1e-13
    assert simulated["largest normal"] > 5.2  # a word of less than 2⁻²⁰ was among them
    assert simulated["uniforms"] == 0.0


def test_kl_is_that_of_the_cpu(simulated):
    assert simulated["kl"] < CLOSE


def test_a_stop_ends_the_run(simulated):
    assert simulated["stop"] == 0.0


def test_too_little_memory_is_said(simulated):
    assert re.fullmatch(
        r"a vector of paths needs 0\.[1-9] MiB on the device; got 0\.0 MiB that may be used", simulated["memory"]
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kernel", RESOURCES)
def test_kernels_are_compiled_and_assembled(compiled, kernel, architecture):
    if architecture not in compiled:
        pytest.skip("ptxas is not installed: pip install '.[cuda]'")
    registers, stack = compiled[architecture][kernel]
    assert registers <= RESOURCES[kernel][0]
    assert stack <= RESOURCES[kernel][1]


def test_a_missing_gpu_is_said():
    options = {"method": "path", "particles": 1024, "progress": False, "backend": "cuda"}
    target, tableau = mixture("diagonal"), tableau_of("ddpm", 4)
    with pytest.raises(ValueError, match="backend must be one of cpu, cuda; got 'gpu'"):
        sv.kl(target, tableau, **{**options, "backend": "gpu"})
    with pytest.raises(ValueError, match="backend must be left out unless method is 'path'"):
        sv.kl(target, tableau, backend="cuda")
    if has_gpu():
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeError, match=r"needs (numba-cuda|an NVIDIA GPU)"):
        sv.kl(target, tableau, **options)


def has_gpu():
    if importlib.util.find_spec("numba_cuda") is None:
        return False
    from numba import cuda

    return cuda.is_available()


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_gpu_does_what_the_cpu_does(scheme, kind):
    if not has_gpu():
        pytest.skip("there is no GPU")
    from srkverify.engines import cuda_paths

    for dimension, starts in ((1, 33), (5, 1001), (40, 257)):
        for truth in (False, True):
            difference = compared(cuda_paths, scheme, kind, 5, dimension, 24, starts, 3, truth, None)
            assert max(difference) < CLOSE


def test_importing_needs_no_cuda():
    code = "import sys, srkverify, srkverify.divergence; sys.exit('numba.cuda' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def compared(cuda_paths, scheme, kind, components, dimension, steps, count, inner, truth, groups):
    """Largest differences of gains, extras and ends, relative where these are above 1."""
    target, tableau = mixture(kind, components, dimension, seed=components), tableau_of(scheme, steps)
    starts, options = starts_of(target, count), {"truth": truth, "seed": 2**64 - 5, "particle": 2**62 + 24}
    expected = run(target, tableau, starts, inner, **options)
    problem = cuda_paths.prepare(target, tableau, "exact")
    stop = np.zeros(1, np.uint8)
    found = cuda_paths.run(problem, None, starts, inner, stop=stop, groups=groups, **options)
    return [
        float(np.max(np.abs(one - other) / np.maximum(1.0, np.abs(other))))
        for one, other in zip(found, expected, strict=True)
    ]


def simulate():
    """Return what the simulator's results differ by from the CPU's."""
    from srkverify.engines import cuda_paths, cuda_paths_lanes

    sys.setswitchinterval(1e-5)  # threads take turns often
    result = {name: compared(cuda_paths, *case) for name, case in CASES.items()}
    result |= drawn() | bounded(cuda_paths)
    cuda_paths_lanes.together.fn, cuda_paths_lanes.anywhere.fn = late("syncthreads"), late("syncthreads_or")
    return result | {name: compared(cuda_paths, *case) for name, case in LATE.items()}


def late(method):
    """Return a barrier after which some thread waits for others to go ahead."""

    def barrier(*flags):
        thread = threading.current_thread()
        result = getattr(thread, method)(*flags)
        thread.passed = getattr(thread, "passed", 0) + 1
        if thread.thread_id == hash((thread.passed, 5)) % rng.LANES:
            time.sleep(2e-4)
        return result

    return barrier


def drawn():
    """Compare random numbers."""
    from numba import cuda

    from srkverify.engines import cuda_paths_rng

    @cuda.jit
    def draw(seed, particle, step, stream, out, uniforms):
        cuda_paths_rng.draw_group_apart(seed, particle, step, stream, 1, out, 0, 8, None)
        cuda_paths_rng.draw_uniforms(seed, particle, step, stream, 1, None, uniforms, 0)

    seed, step, stream = 2**64 - 3, 7, 65
    far = np.abs(rng.normals(seed, 1 << 21, 8, step, stream)[:, 4:]).max(axis=1).argmax()
    result = {}
    for name, particle in (("normals", 2**40), ("tails", int(far))):
        out, uniforms, expected = np.zeros(32), np.zeros(8), np.zeros(8)
        draw[1, 8](rng.signed(seed), particle, step, stream, out, uniforms)
        want = rng.normals(seed, 8, 8, step, stream, first_particle=particle)[:, 4:]
        rng.draw_uniforms(rng.signed(seed), particle, step, stream, 1, rng.make_spare(), expected, 0)
        result[name] = float(np.abs(out.reshape(4, 8).T - want).max())
        result["largest normal"] = float(np.abs(out).max())
        result["uniforms"] = max(result.get("uniforms", 0.0), float(np.abs(uniforms - expected).max()))
    return result


def bounded(cuda_paths):
    """Compare KL, and try a stop and a small device."""
    target, tableau = mixture("diagonal", 2, 2), tableau_of("ddpm", 2)
    several = sv.Product([target, mixture("isotropic", 2, 1)], [1, 3])
    options = {"method": "path", "particles": 32, "inner": 8, "progress": False, "start": "normal"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", sv.UnreliableEstimateWarning)
        one, other = (sv.kl(several, tableau, backend=backend, **options) for backend in ("cpu", "cuda"))
    pairs = [
        (getattr(one, name), getattr(other, name)) for name in ("value", "standard_error", "path_kl", "path_error")
    ]
    problem, starts = cuda_paths.prepare(target, tableau, "exact"), starts_of(target, 3)
    stopped = cuda_paths.run(
        problem, None, starts, 1, truth=False, seed=0, particle=0, stop=np.ones(1, np.uint8), groups=None
    )
    problem.kept.clear()
    free, said = cuda_paths._free_bytes, ""
    cuda_paths._free_bytes = lambda: 1 << 10
    try:
        run_of(cuda_paths, problem, starts)
    except MemoryError as error:
        said = str(error)
    cuda_paths._free_bytes = free
    return {
        "kl": max(abs(a - b) / abs(a) for a, b in pairs),
        "stop": float(max(np.abs(values).max() for values in stopped)),
        "memory": said,
    }


def run_of(cuda_paths, problem, starts):
    return cuda_paths.run(problem, None, starts, 1, truth=False, seed=0, particle=0, stop=np.zeros(1, np.uint8))


def compile_kernels():
    """Return registers and stack of each kernel on each architecture; nothing without ptxas."""
    from numba import cuda
    from numba.cuda import dispatcher, types
    from numba.cuda.np.numpy_support import from_dtype

    from srkverify.engines import cuda_paths
    from srkverify.engines.paths_memory import Mixture, Scratch
    from srkverify.engines.paths_plan import Plan

    def records(kind):
        fields = np.dtype([(name, np.int64) for name in kind._fields], align=True)
        return types.Array(from_dtype(fields), 1, "C")

    law, plan, scratch = records(Mixture), records(Plan), records(Scratch)
    row, panel, whole, flag = types.float64[::1], types.float64[:, ::1], types.int64, types.boolean
    signatures = {
        "clear": (row,),
        "load": (scratch, panel, whole, whole, whole),
        "look_ahead": (law, plan, whole, scratch),
        "back": (law, plan, flag, whole, whole, whole, whole, scratch, row, panel),
        "store": (scratch, whole, panel),
        "replay": (law, plan, whole, whole, scratch, row),
    }
    assembler = next(iter(Path(spec_path("nvidia.cuda_nvcc")).glob("bin/ptxas")), None)
    started = {}
    for architecture in ARCHITECTURES:
        capability = divmod(int(architecture[3:]), 10)
        # Device functions are compiled for the GPU that there is.
        dispatcher.get_current_device = lambda capability=capability: SimpleNamespace(compute_capability=capability)
        for name, signature in signatures.items():
            code, _ = cuda.compile_ptx(getattr(cuda_paths, name).py_func, signature, cc=capability)
            if assembler:
                most = f"--maxrregcount={cuda_paths._REGISTERS}"
                command = [assembler, f"--gpu-name={architecture}", "-v", most, "-o", os.devnull, "/dev/stdin"]
                process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                process.stdin.write(code)
                process.stdin.close()
                started[architecture, name] = process
    result = {}
    for (architecture, name), process in started.items():
        text = process.stderr.read()
        assert process.wait() == 0, text
        result.setdefault(architecture, {})[name] = resources(text)
    return result


def spec_path(package):
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        spec = None
    return next(iter(spec.submodule_search_locations)) if spec else "nowhere"


def resources(text):
    """Registers, and bytes of the stack of a kernel and what it calls."""
    registers = max(map(int, re.findall(r"Used (\d+) registers", text)))
    stacks = re.findall(r"(\d+) bytes cumulative stack size", text) or re.findall(r"(\d+) bytes stack frame", text)
    return registers, max(map(int, stacks))


if __name__ == "__main__":
    print(json.dumps({"simulate": simulate, "compile": compile_kernels}[sys.argv[1]]()))
