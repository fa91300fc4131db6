"""What is installed: the wheel's contents, its use away from a checkout, and a checkout that is not installed."""

import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

import fastmlp

ROOT = Path(__file__).resolve().parent.parent
DEPENDENCIES = ("numpy", "numba", "llvmlite")


def run(*command, cwd, **environment):
    """Run away from the environment of these tests, whose settings would find the fastmlp that is tested in it."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_", "VIRTUAL"))
    }
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=inherited | {name: str(value) for name, value in environment.items()},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the checkout: builds leave folders behind."""
    tree = tmp_path_factory.mktemp("checkout") / "fastmlp"
    built = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
    return shutil.copytree(ROOT, tree, ignore=built)


@pytest.fixture(scope="module")
def wheel(tree, tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    done = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, tree, cwd=out)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = out.iterdir()
    return wheel


@pytest.fixture(scope="module")
def dependencies(tmp_path_factory):
    """A folder of nothing but the dependencies, from the environment of these tests."""
    folder = tmp_path_factory.mktemp("dependencies")
    for name in DEPENDENCIES:
        site_packages = Path(__import__(name).__file__).parent.parent
        for found in (*site_packages.glob(name), *site_packages.glob(f"{name}.libs"), *site_packages.glob(f"{name}-*")):
            (folder / found.name).symlink_to(found)
    return folder


@pytest.fixture(scope="module")
def installed(wheel, dependencies, tmp_path_factory):
    """The Python of a new environment with the wheel in it."""
    environment = tmp_path_factory.mktemp("environment")
    done = run(sys.executable, "-m", "venv", environment, cwd=environment)
    assert done.returncode == 0, done.stderr
    python = environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    purelib = run(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=environment
    ).stdout.strip()
    Path(purelib, "dependencies.pth").write_text(f"{dependencies}\n")
    # Without an index, so that a dependency other than those two would not be found.
    done = run(python, "-m", "pip", "install", "--no-index", "--disable-pip-version-check", wheel, cwd=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return python


# The wheel


def test_the_wheel_is_for_every_machine(wheel):
    assert wheel.name == f"fastmlp-{fastmlp.__version__}-py3-none-any.whl"


def test_the_wheel_has_all_of_the_package_and_nothing_else(tree, wheel):
    """A top-level `kernels` would take the place of another package of that name."""
    expected = {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in (("fastmlp", tree / "fastmlp"), ("fastmlp/kernels", tree / "kernels"))
        for path in folder.rglob("*")
        if path.is_file()
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    info = f"fastmlp-{fastmlp.__version__}.dist-info/"
    assert {name for name in names if not name.startswith(info)} == expected
    assert {
        "fastmlp/py.typed",
        "fastmlp/kernels/gemm.py",
        "fastmlp/data/digits.npz",
        "fastmlp/data/digits.txt",
    } <= expected
    assert f"{info}licenses/LICENSE" in names


def test_the_wheel_says_what_it_needs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = message_from_bytes(archive.read(f"fastmlp-{fastmlp.__version__}.dist-info/METADATA"))
    needed = {needs.split(";")[0].split(">=")[0] for needs in metadata.get_all("Requires-Dist") if "extra" not in needs}
    assert needed == {"numpy", "numba"}
    assert {"plot", "cli"} <= set(metadata.get_all("Provides-Extra"))
    assert metadata["Version"] == fastmlp.__version__
    assert metadata["License-Expression"] == "BSD-3-Clause"


# The installed package


def test_an_installed_package_trains_away_from_the_checkout(installed, tmp_path):
    code = """
    import sys
    from pathlib import Path

    import fastmlp

    environment = Path(sys.prefix).resolve()
    for module in (fastmlp, fastmlp.kernels, sys.modules["fastmlp.kernels.gemm"]):
        assert environment in Path(module.__file__).resolve().parents, module.__file__
    X, Y, X_test, Y_test = fastmlp.datasets.load_digits()
    net = fastmlp.Network([64, 20, 10], seed=1)
    net.fit(X, Y, epochs=20, batch_size=10, learning_rate=5)
    print((net.predict(X_test).argmax(1) == Y_test.argmax(1)).mean() > 0.9)
    """
    done = run(installed, "-c", textwrap.dedent(code), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    assert list(tmp_path.iterdir()) == []


def test_no_other_package_is_installed_with_it(installed, tmp_path):
    code = "import importlib.util; print(importlib.util.find_spec('kernels'), importlib.util.find_spec('tests'))"
    assert run(installed, "-c", code, cwd=tmp_path).stdout == "None None\n"


# A checkout that is not installed


def how_to_install(folder):
    return f'ImportError: fastmlp is imported from a checkout that is not installed: run "pip install -e {folder}"'


def says_how_to_install(done, tree):
    """In one line below where it was imported, not below the error of the import that failed inside."""
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == how_to_install(tree)
    assert done.stderr.count("Error") == 2  # in that line, and in the line of the source that raises it
    assert done.stderr.count("Traceback") == 1


def test_a_checkout_that_is_not_installed_says_how_to(tree, dependencies, tmp_path):
    """Without `site`, so without the environment of these tests."""
    path = os.pathsep.join(map(str, (tree, dependencies)))
    code = "import fastmlp"
    says_how_to_install(run(sys.executable, "-S", "-c", code, cwd=tmp_path, PYTHONPATH=path), tree)
    says_how_to_install(run(sys.executable, "-S", "-c", code, cwd=tree, PYTHONPATH=dependencies), tree)


def test_a_checkout_never_takes_the_kernels_of_another_installation(tree, installed, tmp_path):
    """Be it a wheel or another checkout: its own kernels would be edited, and never run."""
    for python in (installed, sys.executable):
        says_how_to_install(run(python, "-c", "import fastmlp", cwd=tmp_path, PYTHONPATH=tree), tree)


def test_an_error_inside_the_kernels_is_not_taken_for_a_missing_installation(tree, tmp_path, dependencies):
    package = tmp_path / "fastmlp"
    shutil.copytree(tree / "fastmlp", package)
    shutil.copytree(tree / "kernels", package / "kernels")
    (package / "kernels" / "__init__.py").write_text("import a_module_that_is_missing\n")
    path = os.pathsep.join(map(str, (tmp_path, dependencies)))
    done = run(sys.executable, "-S", "-c", "import fastmlp", cwd=tmp_path, PYTHONPATH=path)
    assert done.stderr.splitlines()[-1] == "ModuleNotFoundError: No module named 'a_module_that_is_missing'"
