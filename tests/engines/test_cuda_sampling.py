"""Particles on a GPU: kernels in numba's simulator against the CPU engine, and what the compilers make of them.

Both run in processes of their own, this file as a program, for numba reads its settings when it is imported.
``python tests/engines/test_cuda_sampling.py compile`` writes the table of registers anew.
"""

import csv
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import srkverify as sv
from srkverify.engines import cuda, rng

NEEDED = "numba-cuda is not installed: pip install '.[cuda]'"
ASSEMBLER = "ptxas is not installed: pip install '.[cuda]'"
TABLE = Path(__file__).with_name("cuda_registers.csv")
CLOSE = {"float64": 1e-10, "float32": 1e-4}  # relative, of numbers above 1

# Kind, components, dimension, type, scheme, steps, particles and options. Blocks have 4 threads, or a particle's.
CASES = {
    f"{kind}, {dtype}": (kind, 3, 5, dtype, "srk", 3, 9, {})
    for kind in ("equal", "isotropic", "far", "diagonal", "full")
    for dtype in CLOSE
}
CASES |= {
    "one dimension": ("isotropic", 2, 1, "float64", "ddpm", 3, 5, {}),
    "one component": ("equal", 1, 4, "float32", "ddpm", 3, 5, {}),
    "two threads a particle": ("diagonal", 9, 16, "float64", "srk", 2, 3, {}),
    "more threads than components in turn": ("isotropic", 5, 37, "float64", "srk", 2, 3, {}),
    "the same, float32": ("isotropic", 5, 37, "float32", "srk", 2, 3, {}),
    "low rank": ("low_rank", 3, 6, "float64", "srk", 2, 3, {}),
    "full, four threads": ("full", 3, 20, "float64", "srk", 2, 3, {}),
    "a warp a particle": ("isotropic", 3, 270, "float64", "ddpm", 1, 1, {}),
    "more coordinates than registers": ("diagonal", 2, 1050, "float32", "ddpm", 1, 1, {}),
    "4096 components": ("isotropic", 4096, 4, "float64", "ddpm", 1, 1, {}),
    "4097 components": ("diagonal", 4097, 3, "float32", "ddpm", 1, 1, {}),
    "three stages": ("isotropic", 3, 5, "float64", "higher_order_3", 2, 5, {}),
    "memory of scores": ("diagonal", 3, 5, "float64", "dpmpp_2m_sde", 4, 5, {}),
    "more memory": ("isotropic", 3, 9, "float32", "sa_p3c3", 5, 5, {}),
    "path": ("isotropic", 3, 5, "float64", "srk", 3, 5, {"return_path": True}),
    "coupled path": ("isotropic", 3, 5, "float64", "srk_martingale", 3, 5, {"return_path": True, "refined": 2}),
    "normal start, far particles": ("full", 3, 5, "float64", "srk", 3, 5, {"start": "normal", "first_particle": 2**40}),
    "product": ("product", 0, 23, "float64", "srk", 2, 5, {}),
    "product's path": ("product", 0, 23, "float32", "srk", 2, 3, {"return_path": True}),
    "bases": ("bases", 0, 7, "float64", "srk", 2, 19, {}),
}
# The same with little room: one block of particles, one step and few components at a time.
TIGHT = {
    "tight, isotropic": ("isotropic", 7, 5, "float64", "srk", 3, 19, {}),
    "tight, diagonal": ("diagonal", 7, 5, "float32", "srk", 3, 19, {}),
    "tight, memory": ("isotropic", 3, 5, "float64", "sa_p2c2", 4, 19, {}),
    "tight, path": ("full", 3, 5, "float64", "srk", 3, 19, {"return_path": True}),
}
# Kind, components, dimension, type and scheme; or the multiplication by a matrix.
COMPILED = {
    "isotropic d=16": ("isotropic", 8, 16, "float64", "srk"),
    "isotropic d=64": ("isotropic", 8, 64, "float64", "srk"),
    "isotropic d=16 single": ("isotropic", 8, 16, "float32", "srk"),
    "isotropic d=64 single": ("isotropic", 8, 64, "float32", "srk"),
    "diagonal d=16 single": ("diagonal", 8, 16, "float32", "ddpm"),
    "memory d=16": ("isotropic", 8, 16, "float64", "dpmpp_2m_sde"),
    "full d=16": ("full", 3, 16, "float64", "ddpm"),
    "coupled d=5 single": ("far", 3, 5, "float32", "srk_martingale"),
    "turn": ("matrix", 0, 0, "float64", ""),
    "turn single": ("matrix", 0, 0, "float32", ""),
}
ARCHITECTURES = ("sm_80", "sm_90")


def target_of(kind, components, dimension):
    generator = np.random.default_rng(components)
    if kind == "product":
        rotation = np.linalg.qr(generator.normal(size=(dimension, dimension)))[0]
        return sv.Product([target_of("isotropic", 3, 5), target_of("diagonal", 2, dimension - 5)], [1, 1], rotation)
    if kind == "bases":
        shared = sv.GaussianMixture([0.5, 0.5], [[1.0, 0.0], [-1.0, 0.5]], [[[1.0, 0.6], [0.6, 0.5]]])
        return sv.Product([shared, target_of("full", 2, dimension - 4)], [2, 1])
    weights, means = generator.dirichlet(np.ones(components)), generator.normal(size=(components, dimension))
    variances = generator.uniform(0.1, 2.0, size=(components, dimension))
    if kind == "low_rank":  # which the CPU does in fewer operations
        variances[:, dimension // 2 :] = 0.05
    if kind in ("low_rank", "full"):
        bases = np.linalg.qr(generator.normal(size=(components, dimension, dimension)))[0]
        return sv.GaussianMixture(weights, means, (bases * variances[:, None, :]) @ bases.swapaxes(1, 2))
    if kind == "far":  # squares would lose digits if they were expanded
        return sv.GaussianMixture(weights, 300.0 * means, variances[:, 0])
    return sv.GaussianMixture(
        weights, means, {"equal": 0.25, "isotropic": variances[:, 0], "diagonal": variances}[kind]
    )


def compared(kind, components, dimension, dtype, scheme, steps, particles, options):
    """Largest difference of samples, relative where they are above 1."""
    target = target_of(kind, components, dimension)
    times, options = sv.schedules.exponential(6.0, 0.01, steps), dict(options)
    if "refined" in options:
        options["path_times"] = sv.schedules.refined(times, options.pop("refined"))
    settings = {"dtype": dtype, "progress": False, **options}
    tableau = sv.schemes.SCHEMES[scheme](times)
    expected, found = (
        sv.sample(target, tableau, particles, 2**64 - 5, backend=backend, **settings) for backend in ("cpu", "cuda")
    )
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    return float(np.max(np.abs(found - expected) / np.maximum(1.0, np.abs(expected))))


def started(mode, simulator):
    """Start this file as a program."""
    where = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        [sys.executable, __file__, mode],
        env={**os.environ, "PYTHONPATH": where, "NUMBA_ENABLE_CUDASIM": simulator},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def programs():
    """Both programs, which run at the same time; the second only if there is an assembler."""
    if importlib.util.find_spec("numba_cuda") is None:
        pytest.skip(NEEDED)
    running = {"simulate": started("simulate", "1")}
    if assembler() is not None:
        running["registers"] = started("registers", "0")
    yield running
    for process in running.values():
        process.kill()
        process.communicate()


def found_by(process):
    out, said = process.communicate(timeout=900)
    assert process.returncode == 0, said
    return json.loads(out)


@pytest.fixture(scope="module")
def simulated(programs):
    return found_by(programs["simulate"])


@pytest.fixture(scope="module")
def compiled(programs):
    if "registers" not in programs:
        pytest.skip(ASSEMBLER)
    return found_by(programs["registers"])


@pytest.mark.parametrize("case", [*CASES, *TIGHT])
def test_kernels_do_what_the_cpu_does(simulated, case):
    dtype = {**CASES, **TIGHT}[case][3]
    assert simulated[case] < CLOSE[dtype]


def test_words_are_those_of_the_definition(simulated):
    assert simulated["words"] == 0


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 2e-13), ("float32", 2e-6)])
def test_normals_and_tails_are_those_of_the_cpu(simulated, dtype, tolerance):
    assert simulated[f"normals, {dtype}"] < tolerance
    assert simulated[f"tails, {dtype}"] < tolerance
    assert simulated[f"largest, {dtype}"] > 5.2  # a word below 2¹² was among them


def test_quotients_and_roots_are_made_from_20_bits(simulated):
    assert simulated["reciprocals"] < 4e-16
    assert simulated["roots"] < 4e-16


def test_errors_in_the_simulator(simulated):
    assert simulated["dimension"] == ("target must have mixtures of dimension <= 2048 with backend 'cuda'; got 2049")
    assert re.fullmatch(
        r"backend 'cuda' needs \S+ MiB on the device for two particles; got 0.0 MiB .*", simulated["memory"]
    )
    assert simulated["not finite"][0].startswith("tableau must keep samples finite; got infinity or NaN after step")
    assert simulated["not finite"][0] == simulated["not finite"][1]


def test_blocks_of_particles(simulated):
    assert simulated["blocks"] == 0.0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kernel", COMPILED)
def test_kernels_are_compiled_and_assembled(compiled, kernel, architecture):
    with TABLE.open() as table:
        rows = {(row["architecture"], row["kernel"]): row for row in csv.DictReader(table)}
    found = compiled[architecture][kernel]
    row = rows[architecture, kernel]
    assert found["spilled"] == found["stack"] == 0
    assert {name: int(row[name]) for name in ("registers", "stack", "spilled")} == {
        name: found[name] for name in ("registers", "stack", "spilled")
    }
    doubles = found["float64 instructions"]
    assert doubles == 0 if COMPILED[kernel][3] == "float32" else doubles > 0


def test_what_is_missing_is_said(monkeypatch):
    arguments = target_of("equal", 2, 2), sv.schemes.ddpm([1.0, 0.5]), 3
    if importlib.util.find_spec("numba_cuda") is not None and not has_gpu():
        with pytest.raises(RuntimeError, match=r"^backend 'cuda' needs an NVIDIA GPU with its driver \(.*nvidia-smi"):
            sv.sample(*arguments, backend="cuda")
    monkeypatch.setattr(cuda, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: None)))
    with pytest.raises(
        RuntimeError, match=r"needs numba-cuda, which is not installed: pip install 'srkverify\[cuda\]'"
    ):
        sv.sample(*arguments, backend="cuda")


def test_importing_needs_no_cuda():
    code = "import sys, srkverify; sys.exit('numba.cuda' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def has_gpu():
    if importlib.util.find_spec("numba_cuda") is None:
        return False
    from numba import cuda

    return cuda.is_available()


@pytest.fixture
def gpu():
    if not has_gpu():
        pytest.skip("there is no GPU")


@pytest.mark.gpu
@pytest.mark.parametrize("case", [*CASES, *TIGHT])
def test_a_gpu_does_what_the_cpu_does(gpu, case):
    kind, components, dimension, dtype, scheme, steps, _, options = {**CASES, **TIGHT}[case]
    assert compared(kind, components, dimension, dtype, scheme, 2 * steps, 1001, options) < CLOSE[dtype]


@pytest.mark.gpu
@pytest.mark.parametrize(("components", "dimension"), [(8, 16), (64, 64), (4096, 16), (32, 1024)])
def test_a_gpu_on_large_targets(gpu, components, dimension):
    for dtype, tolerance in CLOSE.items():
        assert compared("isotropic", components, dimension, dtype, "srk", 8, 3001, {}) < tolerance


@pytest.mark.gpu
def test_compute_sanitizer_finds_nothing(gpu):
    if shutil.which("compute-sanitizer") is None:
        pytest.skip("compute-sanitizer is not installed")
    for tool in ("memcheck", "racecheck", "synccheck"):
        command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", sys.executable, __file__, "run"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stdout


def simulate():
    """Return what the simulator's results differ by from the CPU's."""
    from srkverify.engines import cuda_sampling
    from srkverify.engines import cuda_sampling_plan as layout

    sys.setswitchinterval(1e-5)  # threads take turns often
    result = {name: compared(*case) for name, case in CASES.items()} | numbers() | errors(cuda_sampling)
    whole = [sv.sample(target_of("far", 3, 5), sv.schemes.ddpm([1.0, 0.5]), 19, backend="cuda")]
    whole += [
        np.concatenate(
            list(sv.sample_blocks(target_of("far", 3, 5), sv.schemes.ddpm([1.0, 0.5]), 19, backend="cuda", block=7))
        )
    ]
    result["blocks"] = float(np.abs(whole[0] - whole[1]).max())
    cuda_sampling._CHUNK_BYTES = layout._TABLE_BYTES = layout._TILE_BYTES = 1
    return result | {name: compared(*case) for name, case in TIGHT.items()}


def numbers():
    """Compare words, normals and elementary functions."""
    global device  # where the simulator looks for the module
    from numba import cuda as device
    from test_rng import philox, rare_particle

    from srkverify.engines import cuda_device, cuda_numbers

    @device.jit
    def words(seed, particle, step, stream, group, second, out):
        i = device.grid(1)
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = cuda_device.block(seed, particle + i, step, stream, group, second)

    seed, first, step, stream, group = 2**64 - 3, 2**32 - 3, 2**31 + 7, 65, 2**23 + 1
    wrong = 0
    for second in (0, 1):
        found = np.zeros((10, 4), np.int64)
        words[2, 5](rng.signed(seed), first, step, stream, group, second, found)
        for i, row in enumerate(found):
            high = (first + i) >> 32 | second << 31
            counter = ((first + i) & 0xFFFFFFFF, high, step, stream << 24 | group)
            wrong += tuple(map(int, row)) != philox(counter, (seed & 0xFFFFFFFF, seed >> 32))
    result = {"words": wrong}
    rare = rare_particle(5, 9)
    for dtype in CLOSE:
        draw = cuda_device.drawer(dtype)

        @device.jit
        def normals(seed, particle, step, stream, group, out, draw=draw):
            i = device.grid(1)
            out[i, 0], out[i, 1], out[i, 2], out[i, 3] = draw(seed, particle + i, step, stream, group)

        for name, (seed, particle, step) in {"normals": (2**64 - 3, 2**40, 7), "tails": (5, rare - 3, 9)}.items():
            out = np.zeros((8, 4), dtype)
            normals[2, 4](rng.signed(seed), particle, step, 0, 0, out)
            expected = rng.normals(seed, 8, 4, step, 0, first_particle=particle, dtype=dtype)
            result[f"{name}, {dtype}"] = float(np.abs(out - expected).max())
        result[f"largest, {dtype}"] = float(np.hypot(out[3, 0], out[3, 1]))
    x = np.random.default_rng(0).uniform(1e-3, 45.0, 4000)
    made = [cuda_numbers.Number("f8", float(value)) for value in x]
    for name, function, expected in (
        ("reciprocals", cuda_numbers.reciprocal, 1.0 / x),
        ("roots", cuda_numbers.root, np.sqrt(x)),
    ):
        found = np.array([function(number).value for number in made])
        result[name] = float(np.abs(found / expected - 1.0).max())
    return result


def errors(cuda_sampling):
    """Return what is said about what cannot be done."""
    result = {}
    times = np.geomspace(1.0, 0.5, 701)
    tripling = sv.assemble("tripling", times, [sv.Row(state=1.0, time=times[:-1])], sv.Row(state=3.0, scores=[0.0]))
    said = []
    for backend in ("cpu", "cuda"):
        try:
            sv.sample(target_of("isotropic", 2, 1), tripling, 3, backend=backend)
        except ValueError as error:
            said.append(str(error))
    result["not finite"] = said
    large = sv.GaussianMixture([1.0], np.zeros((1, 2049)), 1.0)
    free = cuda_sampling.free_bytes
    for name, target, kind in (("dimension", large, ValueError), ("memory", target_of("equal", 2, 2), MemoryError)):
        cuda_sampling.free_bytes = lambda: 0
        try:
            sv.sample(target, sv.schemes.ddpm([1.0, 0.5]), 3, backend="cuda")
        except kind as error:
            result[name] = str(error)
    cuda_sampling.free_bytes = free
    return result


def assembler():
    """Where ptxas is."""
    try:
        spec = importlib.util.find_spec("nvidia.cuda_nvcc")
    except ModuleNotFoundError:
        spec = None
    for place in spec.submodule_search_locations if spec else ():
        if (Path(place) / "bin" / "ptxas").exists():
            return str(Path(place) / "bin" / "ptxas")
    return None


def registers():
    """Return what each kernel takes on each architecture."""
    from numba.cuda import compiler, dispatcher

    from srkverify import brownian
    from srkverify.engines import cpu_memory, cuda_sampling_problem
    from srkverify.engines import cuda_sampling_plan as layout

    # Device functions are compiled for the GPU that there is.
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=(8, 0))
    codes = {}
    for name, (kind, components, dimension, dtype, scheme) in COMPILED.items():
        if kind == "matrix":
            function, types = cuda_sampling_problem.turn_of(dtype), cuda_sampling_problem.turn_signature(dtype)
        else:
            tableau = sv.schemes.SCHEMES[scheme](sv.schedules.exponential(6.0, 0.01, 4))
            law = cpu_memory.make_law(target_of(kind, components, dimension), tableau, np.dtype(dtype))
            coupling = brownian.noise_weights(tableau, tableau.times) if name.startswith("coupled") else None
            shape = layout.make_shape(law, cpu_memory.make_table(tableau, np.dtype(dtype), coupling), dtype)
            function, types = cuda_sampling_problem.run_steps_of(shape), cuda_sampling_problem.signature(dtype)
        # What takes long is the same for all architectures.
        library, _ = compiler._compile_pyfunc_with_fixup(function, types, device=False, cc=(8, 0), abi="numba")
        for architecture in ARCHITECTURES:
            (codes[architecture, name],) = library.get_asm_strs(cc=divmod(int(architecture[3:]), 10))
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(codes, pool.map(assembled, codes.items()), strict=True))
    return {one: {name: found[one, name] for name in COMPILED} for one in ARCHITECTURES}


def assembled(item):
    (architecture, _), code = item
    command = [assembler(), f"--gpu-name={architecture}", "-v", "-o", os.devnull, "/dev/stdin"]
    done = subprocess.run(command, input=code, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (used,), (stack,) = (re.findall(f, done.stderr) for f in (r"Used (\d+) registers", r"(\d+) bytes stack frame"))
    spilled = sum(map(int, re.findall(r"(\d+) bytes spill", done.stderr)))
    doubles = len(re.findall(r"\.f64\b", re.sub(r"\.reg .*", "", code)))
    return {"registers": int(used), "stack": int(stack), "spilled": spilled, "float64 instructions": doubles}


def write_table():
    """Write the table of registers anew."""
    with TABLE.open("w", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(["architecture", "kernel", "registers", "stack", "spilled"])
        for architecture, kernels in registers().items():
            for name, found in kernels.items():
                writer.writerow([architecture, name, *(found[key] for key in ("registers", "stack", "spilled"))])


if __name__ == "__main__":
    mode = sys.argv[1]
    if mode == "compile":
        write_table()
    elif mode == "run":
        for case in (*CASES.values(), *TIGHT.values()):
            compared(*case)
    else:
        print(json.dumps({"simulate": simulate, "registers": registers}[mode]()))
