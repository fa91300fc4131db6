"""`History`: what a fit went through."""

from dataclasses import dataclass, field

from ._extras import require


@dataclass
class History:
    """What `Network.fit` measured, one entry an epoch.

    Attributes
    ----------
    loss : list of float
        Mean over the samples of the loss of the minibatch that each was in, before that minibatch's step.
    validation_loss : list of float
        Loss of `validation_data` after the epoch; empty without it.
    seconds : list of float
        Time that the epoch's training took, in seconds, validation and callbacks not counted.
    """

    loss: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def plot(self, ax=None):
        """Draw the losses over the epochs into the matplotlib `ax`, by default a new figure's; return it.

        Needs matplotlib: ``pip install "fastmlp[plot]"``.
        """
        if ax is None:
            ax = require("matplotlib.pyplot", extra="plot").figure().add_subplot()
        epochs = range(1, len(self.loss) + 1)
        ax.plot(epochs, self.loss, label="training")
        if self.validation_loss:
            ax.plot(epochs, self.validation_loss, label="validation")
            ax.legend()
        ax.set(xlabel="epoch", ylabel="loss", yscale="log")
        return ax
