"""Multilayer perceptrons trained on the CPU at the speed of the machine.

>>> from fastmlp import Network
>>> net = Network([784, 30, 10], seed=0)
>>> history = net.fit(X, Y, epochs=30, batch_size=10, learning_rate=3.0)
"""

from pathlib import Path as _Path

from ._version import __version__

try:
    import fastmlp.kernels as kernels
except ModuleNotFoundError as error:
    if error.name != "fastmlp.kernels":
        raise
    kernels = None

# A checkout keeps the kernels beside this folder, and only an editable installation of that checkout finds them there.
_here = _Path(__file__).resolve().parent
if kernels is None or _Path(kernels.__file__).resolve().parent not in (_here / "kernels", _here.parent / "kernels"):
    raise ImportError(f'fastmlp is imported from a checkout that is not installed: run "pip install -e {_here.parent}"')

from . import datasets  # noqa: E402
from ._gradients import Gradients  # noqa: E402
from ._history import History  # noqa: E402
from ._network import Network  # noqa: E402

__all__ = ["Gradients", "History", "Network", "__version__", "datasets", "kernels"]
